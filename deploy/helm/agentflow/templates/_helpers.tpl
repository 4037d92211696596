{{/* Names. `agentflow.name` takes (list . "part"). */}}
{{- define "agentflow.release" -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- end }}

{{- define "agentflow.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: agentflow
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "agentflow.labels" -}}
{{- $root := index . 0 -}}
{{ include "agentflow.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{- define "agentflow.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where NATS is: a URL for each server, so that one that is away keeps nobody. */}}
{{- define "agentflow.natsUrl" -}}
{{- if .Values.nats.enabled -}}
{{- $name := include "agentflow.release" . -}}
{{- $scheme := ternary "tls" "nats" (ne .Values.nats.tls.secret "") -}}
{{- $urls := list -}}
{{- range $number := until (int .Values.nats.replicas) -}}
{{- $urls = append $urls (printf "%s://%s-nats-%d.%s-nats:4222" $scheme $name $number $name) -}}
{{- end -}}
{{- join "," $urls -}}
{{- else -}}
{{- .Values.nats.url -}}
{{- end -}}
{{- end }}

{{/* What every pod of ours has. (list . "component") */}}
{{- define "agentflow.podDefaults" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "agentflow.release" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "agentflow.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "agentflow.selector" . | nindent 8 }}
{{- end }}

{{- define "agentflow.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "agentflow.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Who it is at NATS: a role, whose password is a file. (list . "role") */}}
{{- define "agentflow.connection" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}
- name: AGENTFLOW_NATS
  value: {{ include "agentflow.natsUrl" $root | quote }}
- name: AGENTFLOW_USER
  value: {{ $role }}
- name: AGENTFLOW_PASSWORD_FILE
  value: /run/secrets/agentflow/password
- name: AGENTFLOW_INBOX_PREFIX
  value: _INBOX.{{ $role }}
{{- if $root.Values.nats.tls.secret }}
- name: AGENTFLOW_TLS_CA
  value: /run/secrets/nats/ca.crt
{{- end }}
- name: AGENTFLOW_LOG_FORMAT
  value: json
- name: AGENTFLOW_LOG_FILE
  value: "-"
- name: HOME
  value: /tmp
{{- with $root.Values.otel.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "agentflow.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: password
  mountPath: /run/secrets/agentflow
  readOnly: true
{{- if .Values.nats.tls.secret }}
- name: nats-ca
  mountPath: /run/secrets/nats
  readOnly: true
{{- end }}
{{- end }}

{{- define "agentflow.volumes" -}}
{{- $root := index . 0 -}}
- name: tmp
  emptyDir: {}
- name: password
  secret:
    secretName: {{ $root.Values.secrets.passwords }}
    defaultMode: 288 # 0440, which YAML 1.2 reads as another number
    items:
      - key: {{ index . 1 }}
        path: password
{{- with $root.Values.nats.tls.secret }}
- name: nats-ca
  secret:
    secretName: {{ . }}
    defaultMode: 288 # 0440, which YAML 1.2 reads as another number
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- end }}

{{/* Whether its event loop sends heartbeats; each look starts a program, so they are rare. */}}
{{- define "agentflow.probes" -}}
startupProbe:
  exec:
    command: [agentflow, health, {{ . }}]
  periodSeconds: 5
  timeoutSeconds: 15
  failureThreshold: 24
livenessProbe:
  exec:
    command: [agentflow, health, {{ . }}]
  periodSeconds: 60
  timeoutSeconds: 20
  failureThreshold: 3
readinessProbe:
  exec:
    command: [agentflow, health, {{ . }}]
  periodSeconds: 30
  timeoutSeconds: 20
  failureThreshold: 2
{{- end }}

{{- define "agentflow.pdb" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- if $root.Values.podDisruptionBudget }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "agentflow.release" $root }}-{{ $component }}
  labels: {{- include "agentflow.labels" (list $root $component) | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "agentflow.selector" (list $root $component) | nindent 6 }}
{{- end }}
{{- end }}
