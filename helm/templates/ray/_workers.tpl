{{/* One fleet's pods. Call with (list . fleet revision). */}}
{{- define "halftone.workerGroup" -}}
{{- $root := index . 0 -}}
{{- $fleet := index . 1 -}}
{{- $renderers := $root.Values.renderers -}}
{{- $perPod := include "halftone.perPod" $fleet | int -}}
{{- $size := dict "cpu" (toString $fleet.cpu) "memory" $fleet.memory -}}
{{- if gt (int $fleet.gpusPerPod) 0 -}}
{{- $_ := set $size $fleet.gpuResource (toString $fleet.gpusPerPod) -}}
{{- end -}}
groupName: {{ $fleet.name }}
replicas: 0
minReplicas: 0
maxReplicas: {{ add (div (add $fleet.renderers $perPod -1) $perPod) $fleet.surge }}
priority: {{ $fleet.priority }}
{{- with $fleet.idleTimeoutSeconds }}
idleTimeoutSeconds: {{ . }}
{{- end }}
labels: # renderers ask for these
  fleet: {{ $fleet.name }}
  revision: {{ index . 2 | quote }}
rayStartParams:
  num-cpus: {{ include "halftone.cpus" $fleet | quote }}
  num-gpus: {{ $fleet.gpusPerPod | quote }}
  node-manager-port: "6380"
  object-store-memory: {{ mul $root.Values.ray.objectStoreMiB 1048576 | quote }}
template:
  metadata:
    labels:
      {{- include "halftone.podLabels" (list $root "renderer" $renderers) | nindent 6 }}
      halftone/capacity: {{ $fleet.capacity }}
    annotations: # a RayCluster has no scale for a disruption budget: who takes away nodes is told so
      cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
      {{- if ne $fleet.capacity "spot" }}
      {{- /* On a spot node that is taken away Karpenter would not even tell such a pod to go. */}}
      karpenter.sh/do-not-disrupt: "true"
      {{- end }}
      {{- with $renderers.podAnnotations }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec:
    serviceAccountName: {{ include "halftone.fullname" $root }}-renderer
    automountServiceAccountToken: false
    enableServiceLinks: false
    terminationGracePeriodSeconds: {{ $renderers.drain.graceSeconds }}
    {{- with $fleet.runtimeClassName }}
    runtimeClassName: {{ . }}
    {{- end }}
    securityContext: {{- include "halftone.podSecurity" $root | nindent 6 }}
    {{- include "halftone.placement" (list $root $fleet "renderers") | trim | nindent 4 }}
    containers:
      - name: renderer
        image: {{ include "halftone.image" (list $root "renderer") }}
        imagePullPolicy: {{ $root.Values.images.renderer.pullPolicy }}
        env:
          - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ $renderers.drain.raySeconds | quote }}}
          - {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: {{ include "halftone.reconnect" $root | quote }}}
          - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
          {{- with $renderers.env }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        ports:
          - {name: raylet, containerPort: 6380}
        {{- include "halftone.workerProbes" $root | nindent 8 }}
        resources:
          requests: {{- toYaml $size | nindent 12 }}
          limits: {{- toYaml $size | nindent 12 }}
        securityContext: {{- include "halftone.security" $root | nindent 10 }}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
          - {name: shm, mountPath: /dev/shm}
          - {name: cache, mountPath: /var/cache/halftone}
    volumes:
      - name: tmp
        emptyDir: {}
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: {{ add $root.Values.ray.objectStoreMiB $renderers.sharedMemoryMiB }}Mi}
      {{- include "halftone.cacheVolume" $root | nindent 6 }}
{{- end -}}
