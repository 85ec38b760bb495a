{{/* Fleets: a worker group of Ray and an entry in FARM_FLEETS are made of the same values. */}}

{{/* A fleet's revision. A change to anything in here is a new one: new pods beside the old ones, which finish their rows
     and go. It is taken of the pods themselves as they are rendered, so nothing that shapes them is forgotten. Call with
     (list . fleet). */}}
{{- define "halftone.revision" -}}
{{- $values := (index . 0).Values -}}
{{- $group := include "halftone.workerGroup" (append . "") | fromYaml -}}
{{- $pods := pick $group "groupName" "rayStartParams" "template" -}}
{{- dict "ray" $values.ray.version "engine" $values.engine "pods" $pods | toJson | sha256sum | trunc 10 -}}
{{- end -}}

{{/* A fleet with what it leaves out: entries of a list do not inherit from values.yaml. Not by `merge`, which takes a 0
     that was given (no GPU, no surge) for nothing given. */}}
{{- define "halftone.fleet" -}}
{{- $defaults := dict "least" 0 "offPeakRenderers" nil "gpu" "" "capacity" "on-demand" "gpusPerPod" 1 "gpuResource" "nvidia.com/gpu" "cpu" "6" "memory" "28Gi" "surge" 1 "priority" 0 "idleTimeoutSeconds" nil "nodeSelector" dict "tolerations" list "affinity" dict "runtimeClassName" "" "priorityClassName" "" -}}
{{- range $key, $value := . -}}
{{- $_ := set $defaults $key $value -}}
{{- end -}}
{{- toYaml $defaults -}}
{{- end -}}

{{/* Renderers of a pod. */}}
{{- define "halftone.perPod" -}}
{{ max 1 (int .gpusPerPod) }}
{{- end -}}

{{/* CPUs that Ray counts in a pod: whole ones, since Kubernetes may give parts. */}}
{{- define "halftone.cpus" -}}
{{- $cpu := .cpu | toString -}}
{{- if hasSuffix "m" $cpu -}}
{{ max 1 (div (trimSuffix "m" $cpu | int) 1000) }}
{{- else -}}
{{ max 1 (floor (float64 $cpu)) }}
{{- end -}}
{{- end -}}

{{- define "halftone.fleets" -}}
{{- $root := . -}}
{{- $entries := list -}}
{{- range .Values.fleets -}}
{{- $fleet := include "halftone.fleet" . | fromYaml -}}
{{- /* In sixteenths, rounded down: those add up exactly. Of thirds and fifths Ray's autoscaler sees the last one not fit. */ -}}
{{- $cpus := divf (floor (divf (mul 16 (include "halftone.cpus" $fleet | int)) (include "halftone.perPod" $fleet | int))) 16.0 -}}
{{- $revision := include "halftone.revision" (list $root $fleet) -}}
{{- $entry := dict "name" $fleet.name "revision" $revision "renderers" $fleet.renderers "least" $fleet.least "cpus" $cpus "gpus" (ternary 1 0 (gt (int $fleet.gpusPerPod) 0)) "labels" (dict "fleet" $fleet.name "revision" $revision) -}}
{{- if not (kindIs "invalid" $fleet.offPeakRenderers) -}}
{{- $_ := set $entry "off_peak_renderers" $fleet.offPeakRenderers -}}
{{- end -}}
{{- with $fleet.gpu -}}
{{- $_ := set $entry "gpu" . -}}
{{- end -}}
{{- $entries = append $entries $entry -}}
{{- end -}}
{{- toJson $entries -}}
{{- end -}}
