{{- define "pregate.selector" -}}
app.kubernetes.io/name: pregate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pregate.labels" -}}
{{ include "pregate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "pregate.secretName" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-secrets" .Release.Name) }}
{{- end }}

{{/* A TOML value is written as JSON writes it. */}}
{{- define "pregate.toml" -}}
{{- range $key, $value := .Values.settings }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $command, $settings := .Values.settings }}
{{- if kindIs "map" $settings }}

[{{ $command }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Pods with other settings or secrets are other pods. */}}
{{- define "pregate.podAnnotations" -}}
checksum/settings: {{ include "pregate.toml" . | sha256sum }}
{{- if not .Values.secrets.existingSecret }}
checksum/secrets: {{ toJson .Values.secrets | sha256sum }}
{{- end }}
{{- end }}

{{/* What the pods of coordinator and workers have in common. */}}
{{- define "pregate.pod" -}}
automountServiceAccountToken: false
# Else a service named pregate sets PREGATE_PORT=tcp://..., which pregate takes for its --port.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  # Secrets are root's, and readable by this group.
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* Of a list: the values `image`, and what a pool has in their place. */}}
{{- define "pregate.image" -}}
{{- $image := mergeOverwrite (deepCopy (index . 0).Values.image) (index . 1) -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default (index . 0).Chart.AppVersion) }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{/* What their containers have in common. */}}
{{- define "pregate.container" -}}
# Nothing is written, not even to /dev/shm: UCX speaks TCP here.
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop:
      - ALL
# "live" and not "ready": a coordinator that waits for workers must not be restarted.
startupProbe:
  httpGet:
    path: /health/live
    port: 8000
  periodSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet:
    path: /health/live
    port: 8000
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /health/ready
    port: 8000
  periodSeconds: 5
  timeoutSeconds: 5
volumeMounts:
  - name: settings
    mountPath: /etc/pregate
  - name: secrets
    mountPath: /secrets
    readOnly: true
  - name: models
    mountPath: /models
    readOnly: true
{{- end }}

{{- define "pregate.env" -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
# The limit, because --threads counts the cores of the node.
- name: PREGATE_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- end }}

{{- define "pregate.volumes" -}}
- name: settings
  configMap:
    name: {{ .Release.Name }}-settings
- name: models
  {{- if .Values.modelVolume.hostPath }}
  hostPath:
    path: {{ .Values.modelVolume.hostPath }}
    type: Directory
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.modelVolume.existingClaim | default (printf "%s-models" .Release.Name) }}
    readOnly: true
  {{- end }}
{{- end }}

{{- define "pregate.nodes" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
