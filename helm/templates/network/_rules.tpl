{{/* Pieces of NetworkPolicies. */}}

{{/* An egress rule to addresses that the values give; none given is any address. Call with (list to ports). */}}
{{- define "halftone.egressTo" -}}
- ports:
    {{- range index . 1 }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with index . 0 }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Pods of ours. Call with (list . "api" "scheduler"). */}}
{{- define "halftone.ours" -}}
{{- $root := index . 0 -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: {{ $root.Chart.Name }}
    app.kubernetes.io/instance: {{ $root.Release.Name }}
  matchExpressions:
    - {key: app.kubernetes.io/component, operator: In, values: {{ rest . | toJson }}}
{{- end -}}

{{/* Call with (list . "name" "what it says"). */}}
{{- define "halftone.policyHead" -}}
{{- $root := index . 0 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "halftone.fullname" $root }}-{{ index . 1 }}
  labels: {{- include "halftone.labels" (list $root "network") | nindent 4 }}
{{- end -}}

{{/* Redis' port: given, or that of its address. */}}
{{- define "halftone.redisPort" -}}
{{ .Values.networkPolicy.redis.port | default (regexFind ":[0-9]+$" .Values.ray.redis.address | trimPrefix ":") | default 6379 }}
{{- end -}}

{{/* The depot's port: given, in its address, or that of its scheme. */}}
{{- define "halftone.depotPort" -}}
{{- $inAddress := regexFind ":[0-9]+$" (include "halftone.depotEndpoint" .) | trimPrefix ":" -}}
{{ .Values.networkPolicy.depot.port | default $inAddress | default (ternary 443 80 .Values.depot.secure) }}
{{- end -}}
