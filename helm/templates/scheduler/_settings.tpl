{{/* Settings of `farm scheduler` that may be given by hand; the chart makes the others. */}}
{{- define "halftone.schedulerSettings" -}}
{{- list "FARM_FLEET_DRAIN_TIME" "FARM_FLEET_IDLE_TIME" "FARM_OFF_PEAK" "FARM_GARBAGE_GRACE" "FARM_GARBAGE_EVERY" "FARM_KEEP_EVENTS" "FARM_KEEP_ATTEMPTS" "FARM_LEASE_TTL" "FARM_LEADER_TTL" "FARM_TICK" "FARM_LINK_TTL" | toJson -}}
{{- end -}}

{{/* How renderers work: they are told by the scheduler that makes them. */}}
{{- define "halftone.engineEnv" -}}
{{- $engine := .Values.engine -}}
- {name: FARM_ENGINE, value: {{ $engine.kind }}}
- {name: FARM_ENGINE_DEVICE, value: {{ $engine.device | quote }}}
- {name: FARM_ENGINE_BATCH, value: {{ $engine.batch | quote }}}
- {name: FARM_ENGINE_THREADS, value: {{ $engine.threads | quote }}}
- {name: FARM_ENGINE_ENCODERS, value: {{ $engine.encoders | quote }}}
- {name: FARM_ENGINE_RAM_BYTES, value: {{ mul $engine.ramMiB 1048576 | quote }}}
- {name: FARM_ENGINE_GPU_BYTES, value: {{ mul $engine.gpuMiB 1048576 | quote }}}
- {name: FARM_ENGINE_ATTENTION, value: {{ $engine.attention }}}
- {name: FARM_ENGINE_VAE, value: {{ $engine.vae }}}
- {name: FARM_ENGINE_COMPILE, value: {{ $engine.compile | quote }}}
- {name: FARM_ENGINE_QUANTISE, value: {{ $engine.quantise | quote }}}
- {name: FARM_ENGINE_CACHE, value: /var/cache/halftone/weights}
- {name: FARM_ENGINE_CACHE_BYTES, value: {{ div (mul .Values.renderers.cache.sizeGiB 1073741824 9) 10 | quote }}}
- {name: FARM_FAKE_SECONDS, value: {{ $engine.fakeSeconds | quote }}}
{{- with $engine.tokenizer }}
- {name: FARM_ENGINE_TOKENIZER, value: {{ . | quote }}}
{{- end }}
{{- with $engine.identity }}
- {name: FARM_ENGINE_IDENTITY, value: {{ . | quote }}}
{{- end }}
{{- end -}}
