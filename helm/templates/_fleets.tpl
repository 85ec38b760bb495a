{{/* Fleets: a worker group of Ray and an entry in FARM_FLEETS are made of the same values. */}}

{{/* A change to anything in here is a new revision: new pods beside the old ones, which finish their rows and go.
     `fleets` without what does not shape a pod. */}}
{{- define "halftone.revision" -}}
{{- $shapes := list -}}
{{- range .Values.fleets -}}
{{- $fleet := include "halftone.fleet" . | fromYaml -}}
{{- $shapes = append $shapes (omit $fleet "renderers" "least" "offPeakRenderers" "gpu" "surge" "priority" "idleTimeoutSeconds") -}}
{{- end -}}
{{- $renderers := merge (dict "drain" (omit .Values.renderers.drain "rowsSeconds")) (omit .Values.renderers "drain") -}}
{{- $shape := dict "image" (include "halftone.image" (list . "renderer")) "ray" .Values.ray.version "engine" .Values.engine "renderers" $renderers "objectStore" .Values.ray.objectStoreMiB "fleets" $shapes -}}
{{- toJson $shape | sha256sum | trunc 10 -}}
{{- end -}}

{{/* A fleet with what it leaves out: entries of a list do not inherit from values.yaml. */}}
{{- define "halftone.fleet" -}}
{{- $defaults := dict "least" 0 "offPeakRenderers" nil "gpu" "" "capacity" "on-demand" "gpusPerPod" 1 "gpuResource" "nvidia.com/gpu" "cpu" "6" "memory" "28Gi" "surge" 1 "priority" 0 "idleTimeoutSeconds" nil "nodeSelector" dict "tolerations" list "affinity" dict "runtimeClassName" "" "priorityClassName" "" -}}
{{- merge (deepCopy .) $defaults | toYaml -}}
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
{{- $cpus := divf (include "halftone.cpus" $fleet | float64) (include "halftone.perPod" $fleet | float64) -}}
{{- $entry := dict "name" $fleet.name "renderers" $fleet.renderers "least" $fleet.least "cpus" $cpus "gpus" (ternary 1 0 (gt (int $fleet.gpusPerPod) 0)) "labels" (dict "fleet" $fleet.name "revision" (include "halftone.revision" $root)) -}}
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
