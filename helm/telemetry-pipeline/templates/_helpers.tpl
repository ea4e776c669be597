{{/* The chart's name, or what stands for it. */}}
{{- define "telemetry-pipeline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* How the names of all objects begin. 42, because "-collector" and the revision of a StatefulSet have to fit in a label too. */}}
{{- define "telemetry-pipeline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 42 | trimSuffix "-" }}
{{- else }}
{{- $name := include "telemetry-pipeline.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 42 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 42 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels of an object. Takes (dict "root" $ "component" "queue"), as do the templates below. */}}
{{- define "telemetry-pipeline.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "telemetry-pipeline.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The labels by which services and controllers find the pods of a process. */}}
{{- define "telemetry-pipeline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "telemetry-pipeline.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Name and labels of an object that belongs to one process. */}}
{{- define "telemetry-pipeline.metadata" -}}
name: {{ include "telemetry-pipeline.fullname" .root }}-{{ .component }}
labels:
  {{- include "telemetry-pipeline.labels" . | nindent 2 }}
{{- end }}

{{/* Labels and annotations of a pod. Takes "port" too, where Prometheus finds /metrics, and "reads", for whose sake it is started anew. */}}
{{- define "telemetry-pipeline.podMetadata" -}}
annotations:
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ .port | quote }}
  {{- if .root.Values.tls.enabled }}
  prometheus.io/scheme: https
  {{- end }}
  {{- with .reads }}
  checksum/reads: {{ toJson . | sha256sum }}
  {{- end }}
labels:
  {{- include "telemetry-pipeline.labels" . | nindent 2 }}
{{- end }}

{{/* What all pods have in common, within Pod Security's "restricted". Takes "nodeSelector" and "tolerations" too, for a process that has its own. */}}
{{- define "telemetry-pipeline.pod" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ include "telemetry-pipeline.fullname" .root }}
automountServiceAccountToken: false
# A service called telemetry-queue would otherwise put TELEMETRY_QUEUE_PORT=tcp://… into the environment, where our
# processes look for their settings.
enableServiceLinks: false
# What has not been settled by then is given to others anyway.
terminationGracePeriodSeconds: {{ add $values.shutdown.ackWaitSeconds (eq .component "gateway" | ternary $values.shutdown.endpointsSeconds 0) }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .nodeSelector | default $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (.tolerations | default list) $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Pods of one process evenly over nodes and zones. */}}
{{- define "telemetry-pipeline.spread" -}}
{{- $labels := . }}
{{- with .root.Values.topologyKeys }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "telemetry-pipeline.selectorLabels" $labels | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Name, image and security of the container of a process. */}}
{{- define "telemetry-pipeline.container" -}}
name: {{ .component }}
image: "{{ .root.Values.image.repository }}-{{ .component }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/*
The three probes of a container: started is who has recovered what it keeps, ready is who may be asked, and only who says
nothing for minutes is dead: to start a process again helps against nothing else. Takes "port", the number of the HTTP port,
"ready", what to ask there when it is not /health, and of those that speak gRPC "grpc" and "service". Kubernetes' gRPC probes know neither TLS nor certificates, so with
TLS it asks for /health, and where that needs a certificate the image's own check does.
*/}}
{{- define "telemetry-pipeline.probes" -}}
startupProbe:
  {{- include "telemetry-pipeline.question" . | nindent 2 }}
  # Ten minutes, for a long log.
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 300
readinessProbe:
  {{- include "telemetry-pipeline.question" (merge (dict "path" .ready) .) | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  {{- include "telemetry-pipeline.question" (merge (dict "service" "") .) | nindent 2 }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* What a probe asks. An empty "service" means the process as a whole. */}}
{{- define "telemetry-pipeline.question" -}}
{{- $tls := .root.Values.tls -}}
{{- if and $tls.enabled $tls.mutual (ne .component "gateway") -}}
exec:
  command: [python, -SE, /opt/telemetry/healthcheck.py, "https://127.0.0.1:{{ .port }}/health", /tls/tls.crt, /tls/tls.key]
{{- else if or $tls.enabled (not .grpc) -}}
httpGet:
  path: {{ .path | default "/health" }}
  port: {{ .port }}
  {{- if $tls.enabled }}
  scheme: HTTPS
  {{- end }}
{{- else -}}
grpc:
  port: {{ .grpc }}
  service: {{ .service | quote }}
{{- end }}
{{- end }}

{{/* The claim of a StatefulSet for /data. Takes the "persistence" of its values. */}}
{{- define "telemetry-pipeline.claim" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end }}

{{/* The address of the queue. */}}
{{- define "telemetry-pipeline.queue" -}}
{{ include "telemetry-pipeline.fullname" . }}-queue:9091
{{- end }}

{{/* The addresses of all collectors by name, so that one that is missing is missed. */}}
{{- define "telemetry-pipeline.collectors" -}}
{{- $name := printf "%s-collector" (include "telemetry-pipeline.fullname" .) -}}
{{- range $number := until (int .Values.collector.replicas) }}{{ if $number }},{{ end }}{{ $name }}-{{ $number }}.{{ $name }}:9092{{ end }}
{{- end }}

{{/* The processes that run. */}}
{{- define "telemetry-pipeline.processes" -}}
queue collector gateway{{ if .Values.alerts.enabled }} alerts{{ end }}{{ if .Values.streamer.enabled }} streamer{{ end }}
{{- end }}
