{{/* Names and labels. */}}

{{- define "halftone.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a part's pods are found by. Call with (list . "api"). */}}
{{- define "halftone.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Of every object. Call with (list . "api"). */}}
{{- define "halftone.labels" -}}
{{- $root := index . 0 -}}
{{ include "halftone.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ $root.Chart.Name }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of a pod: without the version, which would replace pods that did not change. Call with (list . "api" .Values.api). */}}
{{- define "halftone.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "halftone.selector" (list $root (index . 1)) }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- if gt (len .) 2 }}
{{- with (index . 2).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Call with (list . "control"). */}}
{{- define "halftone.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "halftone.secret" -}}
{{ .Values.secrets.existingSecret | default (include "halftone.fullname" .) }}
{{- end -}}

{{- define "halftone.raySecret" -}}
{{ .Values.secrets.existingRaySecret | default (printf "%s-ray" (include "halftone.fullname" .)) }}
{{- end -}}

{{/* Where migrations read theirs: as Helm's hooks they come before the release, and so must what they read. */}}
{{- define "halftone.migrateSecret" -}}
{{- if and .Values.migrations.useHelmHooks (not .Values.secrets.existingSecret) -}}
{{ include "halftone.fullname" . }}-migrate
{{- else -}}
{{ include "halftone.secret" . }}
{{- end -}}
{{- end -}}

{{- define "halftone.head" -}}
{{ include "halftone.fullname" . }}-head-svc:6379
{{- end -}}
