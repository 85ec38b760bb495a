{{/* What pods have in common. */}}

{{/* The restricted Pod Security Standard, and a number for the user: the kubelet cannot tell from a name. */}}
{{- define "halftone.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "halftone.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Call with (list . "NAME" "key" "secret's name"). */}}
{{- define "halftone.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef: {name: {{ index . 2 }}, key: {{ index . 1 }}}
{{- end -}}

{{/* What API and scheduler both read. */}}
{{- define "halftone.serviceEnv" -}}
{{- $secret := include "halftone.secret" . -}}
- {name: FARM_DEPOT_ENDPOINT, value: {{ include "halftone.depotEndpoint" . | quote }}}
- {name: FARM_DEPOT_BUCKET, value: {{ .Values.depot.bucket | quote }}}
- {name: FARM_DEPOT_REGION, value: {{ .Values.depot.region | quote }}}
- {name: FARM_DEPOT_SECURE, value: {{ and .Values.depot.secure (not .Values.trial.s3.enabled) | quote }}}
{{ include "halftone.fromSecret" (list "FARM_DEPOT_ACCESS_KEY" "depot-access-key" $secret) }}
{{ include "halftone.fromSecret" (list "FARM_DEPOT_SECRET_KEY" "depot-secret-key" $secret) }}
- {name: FARM_SCHEMA_WAIT, value: PT{{ .Values.schemaWaitSeconds }}S}
{{- end -}}

{{- define "halftone.depotEndpoint" -}}
{{- if .Values.trial.s3.enabled -}}
{{ include "halftone.fullname" . }}-s3:8333
{{- else -}}
{{ .Values.depot.endpoint }}
{{- end -}}
{{- end -}}

{{/* Settings by hand, which come last. A setting that the chart makes itself would win or lose by chance.
     Call with (list "api.settings" .Values.api.settings (list "FARM_..." ...)). */}}
{{- define "halftone.settings" -}}
{{- $allowed := index . 2 -}}
{{- $where := index . 0 -}}
{{- range $name, $value := index . 1 }}
{{- if not (has $name $allowed) }}
{{- fail (printf "%s: %s is no setting to give here. There are: %s." $where $name (join ", " $allowed)) }}
{{- end }}
- {name: {{ $name }}, value: {{ include "halftone.plain" $value | quote }}}
{{- end }}
{{- end -}}

{{/* A value as text. Helm reads numbers as floats, and would write a large one as 2e+07. */}}
{{- define "halftone.plain" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* Pods start anew when a Secret that the chart renders has changed: they read it at their start only.
     Call with (list . .Values.api). */}}
{{- define "halftone.annotations" -}}
{{- $root := index . 0 -}}
{{- $found := deepCopy (index . 1).podAnnotations -}}
{{- $secrets := $root.Values.secrets -}}
{{- if not (and $secrets.existingSecret $secrets.existingRaySecret) -}}
{{- $_ := set $found "checksum/secrets" (toJson (list $secrets $root.Values.trial) | sha256sum | trunc 16) -}}
{{- end -}}
{{- with $found }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How long Ray's processes, and the scheduler, wait for a head that is away. */}}
{{- define "halftone.reconnect" -}}
{{ .Values.ray.reconnectSeconds | default (ternary 600 60 .Values.ray.redis.enabled) }}
{{- end -}}

{{/* What anything that joins the Ray cluster knows. */}}
{{- define "halftone.rayEnv" -}}
- {name: RAY_AUTH_MODE, value: token}
{{ include "halftone.fromSecret" (list "RAY_AUTH_TOKEN" "auth_token" (include "halftone.raySecret" .)) }}
- {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: {{ include "halftone.reconnect" . | quote }}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end -}}

{{/* Call with (list . .Values.api "control"): where pods run, and how they are pulled. */}}
{{- define "halftone.placement" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- $made := ternary (printf "%s-%s" (include "halftone.fullname" $root) (index . 2)) "" $root.Values.priorityClasses.create }}
{{- with $part.priorityClassName | default $made }}
priorityClassName: {{ . }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Over nodes and over zones. Call with (list . "api" .Values.api.spread). */}}
{{- define "halftone.spread" -}}
{{- $root := . }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: {{ index $root 2 }}
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "halftone.selector" (list (index $root 0) (index $root 1)) | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* A service that has not found its tables yet answers all the same; the rest is for a slow disk. */}}
{{- define "halftone.startup" -}}
httpGet: {path: /healthz, port: http}
periodSeconds: 5
failureThreshold: {{ div (add .Values.schemaWaitSeconds 180) 5 }}
{{- end -}}
