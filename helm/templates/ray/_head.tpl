{{- define "halftone.headGroup" -}}
{{- $head := .Values.ray.head -}}
serviceType: ClusterIP
rayStartParams:
  num-cpus: "0" # renderers need GPUs, and nothing else is made
  num-gpus: "0"
  include-dashboard: "false"
  object-store-memory: {{ mul .Values.ray.objectStoreMiB 1048576 | quote }}
template:
  metadata:
    labels: {{- include "halftone.podLabels" (list . "ray-head" $head) | nindent 6 }}
    annotations:
      cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
      karpenter.sh/do-not-disrupt: "true"
      {{- with $head.podAnnotations }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec:
    enableServiceLinks: false
    terminationGracePeriodSeconds: {{ $head.graceSeconds }}
    securityContext: {{- include "halftone.podSecurity" . | nindent 6 }}
    {{- include "halftone.placement" (list . $head "control") | trim | nindent 4 }}
    containers:
      - name: ray-head
        image: {{ include "halftone.image" (list . "control") }}
        imagePullPolicy: {{ .Values.images.control.pullPolicy }}
        env:
          - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
          - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: "0"}
        ports:
          - {name: gcs, containerPort: 6379}
        {{- include "halftone.headProbes" . | nindent 8 }}
        resources: {{- toYaml $head.resources | nindent 10 }}
        securityContext: {{- include "halftone.security" . | nindent 10 }}
        volumeMounts: {{- include "halftone.rayLogs" . | nindent 10 }}
    volumes:
      - name: tmp
        emptyDir: {}
{{- end -}}
