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

{{/* Labels and annotations of a pod. Takes "port" too, where Prometheus finds /metrics. */}}
{{- define "telemetry-pipeline.podMetadata" -}}
annotations:
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ .port | quote }}
labels:
  {{- include "telemetry-pipeline.labels" . | nindent 2 }}
{{- end }}

{{/* What all pods have in common, within Pod Security's "restricted". Takes the root. */}}
{{- define "telemetry-pipeline.pod" -}}
serviceAccountName: {{ include "telemetry-pipeline.fullname" . }}
automountServiceAccountToken: false
# A service called telemetry-queue would otherwise put TELEMETRY_QUEUE_PORT=tcp://… into the environment, where our
# processes look for their settings.
enableServiceLinks: false
# Longer than any process takes to drain.
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
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

{{/* The three probes of a container, which all ask the same. Takes the question, such as {grpc: {port: 9091, service: …}}. */}}
{{- define "telemetry-pipeline.probes" -}}
# Five minutes to recover a long log before the liveness probe begins.
startupProbe:
  {{- toYaml . | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 150
readinessProbe:
  {{- toYaml . | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  {{- toYaml . | nindent 2 }}
  periodSeconds: 20
  timeoutSeconds: 5
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
