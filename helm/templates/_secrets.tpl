{{/* Secrets, rendered or fetched. */}}

{{/* A value of `secrets.values`, or that of the trial's own parts. Call with (list . "api-database-url"). */}}
{{- define "halftone.secretValue" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values.secrets.values -}}
{{- $trial := $root.Values.trial -}}
{{- $key := index . 1 -}}
{{- $given := get (dict "owner-database-url" $values.ownerDatabaseUrl "api-database-url" $values.apiDatabaseUrl "scheduler-database-url" $values.schedulerDatabaseUrl "depot-access-key" $values.depotAccessKey "depot-secret-key" $values.depotSecretKey) $key -}}
{{- $roles := dict "owner-database-url" "farm_owner" "api-database-url" "farm_api" "scheduler-database-url" "farm_scheduler" -}}
{{- if $given -}}
{{ $given }}
{{- else if and $trial.postgres.enabled (hasKey $roles $key) -}}
{{ printf "postgresql://%s:%s@%s-postgres:5432/halftone" (get $roles $key) $trial.password (include "halftone.fullname" $root) }}
{{- else if $trial.s3.enabled -}}
{{ ternary "halftone" $trial.password (eq $key "depot-access-key") }}
{{- end -}}
{{- end -}}

{{/* An ExternalSecret. Call with (list . "name of the Secret" (list "key" ...)). */}}
{{- define "halftone.externalSecret" -}}
{{- $external := (index . 0).Values.secrets.external -}}
refreshInterval: {{ $external.refreshInterval }}
secretStoreRef: {kind: {{ $external.storeKind }}, name: {{ $external.storeName }}}
target: {name: {{ index . 1 }}}
data:
  {{- range index . 2 }}
  - secretKey: {{ . }}
    remoteRef: {key: {{ $external.remoteKey }}, property: {{ . }}}
  {{- end }}
{{- end -}}
