{{/* How a process listens: the arguments of a server. */}}
{{- define "telemetry-pipeline.listen" -}}
{{- $tls := .root.Values.tls -}}
- --host=0.0.0.0
{{- if $tls.enabled }}
- --tls-cert=/tls/tls.crt
- --tls-key=/tls/tls.key
{{- if and $tls.mutual (ne .component "gateway") }}
- --tls-client-ca=/tls/ca.crt
{{- end }}
{{- end }}
{{- if .root.Values.tokens.existingSecret }}
- --tokens=/tokens/tokens
{{- else if not $tls.enabled }}
- --insecure
{{- end }}
{{- end }}

{{/* How a process connects to others: the arguments of a client. */}}
{{- define "telemetry-pipeline.connect" -}}
{{- if .root.Values.tls.enabled }}
- --ca=/tls/ca.crt
{{- if .root.Values.tls.mutual }}
- --client-cert=/tls/tls.crt
- --client-key=/tls/tls.key
{{- end }}
{{- end }}
{{- if .root.Values.tokens.existingSecret }}
- --token-file=/tokens/token
{{- end }}
{{- end }}

{{/* The secret with the certificate of a process. */}}
{{- define "telemetry-pipeline.certificate" -}}
{{- .root.Values.tls.existingSecret | default (printf "%s-%s-tls" (include "telemetry-pipeline.fullname" .root) .component) }}
{{- end }}

{{/* Where a container finds certificates, tokens, and a place for temporary files. */}}
{{- define "telemetry-pipeline.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .root.Values.tls.enabled }}
- { name: tls, mountPath: /tls, readOnly: true }
{{- end }}
{{- if .root.Values.tokens.existingSecret }}
- { name: tokens, mountPath: /tokens, readOnly: true }
{{- end }}
{{- end }}

{{/* The volumes of these. A pod sees no token but its own. */}}
{{- define "telemetry-pipeline.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "telemetry-pipeline.certificate" . }}
    defaultMode: 0440
{{- end }}
{{- with .root.Values.tokens.existingSecret }}
- name: tokens
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      {{- if ne $.component "test" }}
      - { key: tokens, path: tokens }
      {{- end }}
      {{- if ne $.component "queue" }}
      - { key: {{ eq $.component "test" | ternary "metrics" $.component }}, path: token }
      {{- end }}
{{- end }}
{{- end }}

{{/* Refuses values that contradict each other, by name. What one value may be is said by values.schema.json. */}}
{{- define "telemetry-pipeline.refuse" -}}
{{- with .Values }}
{{- if .tls.enabled }}
{{- if and .tls.existingSecret .tls.certManager.issuer }}
{{- fail "tls.existingSecret and tls.certManager.issuer are both set: give the certificates, or have them made" }}
{{- else if not (or .tls.existingSecret .tls.certManager.issuer) }}
{{- fail "tls.enabled needs tls.existingSecret (a secret with tls.crt, tls.key and ca.crt) or tls.certManager.issuer" }}
{{- end }}
{{- else if or .tls.mutual .tls.existingSecret .tls.certManager.issuer }}
{{- fail "tls.mutual, tls.existingSecret and tls.certManager.issuer mean nothing while tls.enabled is false" }}
{{- end }}
{{- if and .gateway.ingress.enabled (not .gateway.ingress.host) }}
{{- fail "gateway.ingress.host is required when gateway.ingress.enabled" }}
{{- end }}
{{- if and .gateway.autoscaling.enabled (gt (int .gateway.autoscaling.minReplicas) (int .gateway.autoscaling.maxReplicas)) }}
{{- fail "gateway.autoscaling.minReplicas is more than gateway.autoscaling.maxReplicas" }}
{{- end }}
{{- if and .gateway.autoscaling.enabled (not (dig "requests" "cpu" "" .gateway.resources)) }}
{{- fail "gateway.autoscaling.targetCPU is percent of gateway.resources.requests.cpu, which is not set" }}
{{- end }}
{{- if and .streamer.enabled (eq .streamer.kind "DaemonSet") (not .streamer.volume) }}
{{- fail "streamer.volume is required when streamer.kind is DaemonSet: it holds the file of each node" }}
{{- end }}
{{- if and .streamer.enabled .streamer.volume (not (hasPrefix "/csv/" .streamer.csv)) }}
{{- fail "streamer.csv has to be a file in /csv, where streamer.volume is mounted" }}
{{- end }}
{{- if and (hasPrefix "/csv/" .streamer.csv) .streamer.enabled (not .streamer.volume) }}
{{- fail "streamer.volume is required when streamer.csv is a file in /csv" }}
{{- end }}
{{- if not .alerts.enabled }}
{{- if or .alerts.rules .alerts.alertmanagers .alerts.webhooksSecret }}
{{- fail "alerts.rules, alerts.alertmanagers and alerts.webhooksSecret mean nothing while alerts.enabled is false" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
