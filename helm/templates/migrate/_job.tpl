{{/* What a hook needs must be there before it. Helm deletes what has succeeded after the last hook of a phase, not
     before: nothing of this, the owner's password above all, is left when the migration is through. `helm uninstall`
     would not take it away. */}}
{{- define "halftone.beforeHook" -}}
helm.sh/hook: pre-install,pre-upgrade{{ if .Values.migrations.contract }},post-install,post-upgrade{{ end }}
helm.sh/hook-weight: "-10"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* The pod of a migration. Call with (list . "expand" (list "--only" "expand")). */}}
{{- define "halftone.migratePod" -}}
{{- $root := index . 0 -}}
{{- $secret := include "halftone.migrateSecret" $root -}}
metadata:
  labels: {{- include "halftone.podLabels" (list $root "migrate") | nindent 4 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "halftone.fullname" $root }}-migrate
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{- include "halftone.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  containers:
    - name: migrate
      image: {{ include "halftone.image" (list $root "control") }}
      imagePullPolicy: {{ $root.Values.images.control.pullPolicy }}
      command: {{ concat (list "farm" "migrate") (index . 2) | toJson }}
      env:
        {{- include "halftone.fromSecret" (list "FARM_OWNER_DATABASE_URL" "owner-database-url" $secret) | nindent 8 }}
        {{- if has "--roles" (index . 2) }}
        {{- include "halftone.fromSecret" (list "FARM_API_DATABASE_URL" "api-database-url" $secret) | nindent 8 }}
        {{- include "halftone.fromSecret" (list "FARM_SCHEDULER_DATABASE_URL" "scheduler-database-url" $secret) | nindent 8 }}
        {{- end }}
      resources: {{- toYaml $root.Values.migrations.resources | nindent 8 }}
      securityContext: {{- include "halftone.security" $root | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: tmp
      emptyDir: {}
{{- end -}}

{{/* A Job. Call with (list . "expand" arguments "pre-install,pre-upgrade"). Without hooks its name has a hash of
     itself: a Job that is there cannot be changed, and one that ran must not stop the next upgrade. */}}
{{- define "halftone.migrateJob" -}}
{{- $root := index . 0 -}}
{{- $pod := include "halftone.migratePod" . -}}
{{- $hooks := $root.Values.migrations.useHelmHooks -}}
{{- $bounds := dict "backoffLimit" (int $root.Values.migrations.backoffLimit) "activeDeadlineSeconds" (int $root.Values.migrations.activeDeadlineSeconds) -}}
{{- $suffix := ternary "" (printf "-%s" (printf "%s%s" $pod (toJson $bounds) | sha256sum | trunc 8)) $hooks -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "halftone.fullname" $root }}-{{ index . 1 }}{{ $suffix }}
  labels: {{- include "halftone.labels" (list $root "migrate") | nindent 4 }}
  {{- if $hooks }}
  annotations:
    helm.sh/hook: {{ index . 3 }}
    helm.sh/hook-weight: "0"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- end }}
spec:
  {{- toYaml $bounds | nindent 2 }}
  {{- if not $hooks }}
  ttlSecondsAfterFinished: {{ int $root.Values.migrations.ttlSecondsAfterFinished }}
  {{- end }}
  template: {{- $pod | nindent 4 }}
{{- end -}}
