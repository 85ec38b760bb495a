{{/* What head and workers have in common. */}}

{{- define "halftone.rayLogs" -}}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Of one fleet's pods. Call with (list . fleet). */}}
{{- define "halftone.cacheVolume" -}}
{{- $cache := .Values.renderers.cache -}}
- name: cache
{{- if eq $cache.type "emptyDir" }}
  emptyDir: {sizeLimit: {{ $cache.sizeGiB }}Gi}
{{- else if eq $cache.type "hostPath" }} # not made when it is missing: it would be root's
  hostPath: {path: {{ $cache.hostPath | quote }}, type: Directory}
{{- else if eq $cache.type "claim" }}
  persistentVolumeClaim: {claimName: {{ $cache.claimName }}}
{{- else }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $cache.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ $cache.sizeGiB }}Gi}}
{{- end }}
{{- end -}}

{{/* KubeRay would add probes of an HTTP server that our images have not (it belongs to ray[default]). */}}
{{- define "halftone.headProbes" -}}
livenessProbe:
  exec: {command: [ray, health-check, --address, "127.0.0.1:6379"]}
  initialDelaySeconds: 60
  periodSeconds: 30
  timeoutSeconds: 20
  failureThreshold: 5
readinessProbe:
  tcpSocket: {port: gcs}
  periodSeconds: 5
{{- end -}}

{{/* When the raylet ends, so does `ray start --block`, and the container with it: nothing else needs to be asked. */}}
{{- define "halftone.workerProbes" -}}
livenessProbe:
  tcpSocket: {port: raylet}
  initialDelaySeconds: 60
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 10
readinessProbe:
  tcpSocket: {port: raylet}
  periodSeconds: 5
{{- end -}}
