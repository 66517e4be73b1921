{{/* Pieces of a pod. The tier's name and values come as (dict "root" $ "tier" "broker" "values" .Values.broker). */}}

{{- define "strom.pod.annotations" -}}
{{- $config := merge (dict) .values.config .root.Values.config }}
checksum/config: {{ include "strom.properties" $config | sha256sum }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "strom.pod.spec" -}}
serviceAccountName: {{ include "strom.fullname" .root }}-{{ .tier }}
automountServiceAccountToken: false
# Kubernetes would add variables such as STROM_BROKER_PORT, which are no settings.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $labels := printf "%s\napp.kubernetes.io/component: %s" (include "strom.selector" .root) .tier }}
topologySpreadConstraints:
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $labels | nindent 8 }}
{{- if eq .values.podAntiAffinity "hard" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- $labels | nindent 12 }}
{{- else if eq .values.podAntiAffinity "soft" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- $labels | nindent 14 }}
{{- end }}
{{- end -}}

{{- define "strom.container" -}}
image: {{ include "strom.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
# A broker that checks its logs after a crash may take its time.
startupProbe:
  httpGet: { path: /startupz, port: admin }
  periodSeconds: 2
  failureThreshold: {{ ternary 900 150 (eq .tier "broker") }}
livenessProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 3
  timeoutSeconds: 3
{{- end -}}

{{- define "strom.env" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: STROM_CLUSTER_ID
  valueFrom: { secretKeyRef: { name: {{ include "strom.fullname" .root }}-cluster, key: cluster-id } }
- name: STROM_CONTROLLER_BOOTSTRAP
  value: {{ include "strom.controllers" .root | quote }}
- name: STROM_ADMIN_LISTENER
  value: "0.0.0.0:9644"
# The rest of the grace period is for what comes before and after.
- name: STROM_SHUTDOWN_TIMEOUT_MS
  value: {{ mul (sub (int .values.terminationGracePeriodSeconds) 10) 1000 | quote }}
{{- if .root.Values.internalTls.enabled }}
- name: STROM_GRPC_SECURITY_PROTOCOL
  value: SSL
- name: STROM_GRPC_TLS_CA_FILE
  value: /etc/strom-tls/ca.crt
{{- if ne .tier "broker" }}
- name: STROM_GRPC_TLS_CERTIFICATE_FILE
  value: /etc/strom-tls/{{ .tier }}.crt
- name: STROM_GRPC_TLS_KEY_FILE
  value: /etc/strom-tls/{{ .tier }}.key
{{- end }}
{{- else }}
- name: STROM_GRPC_SECURITY_PROTOCOL
  value: PLAINTEXT
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The certificates of a tier: of the brokers' all, since the pods of a StatefulSet have the same volumes. */}}
{{- define "strom.tls.volume" -}}
{{- if .root.Values.internalTls.enabled }}
- name: tls
  secret:
    secretName: {{ .root.Values.internalTls.existingSecret }}
    # Readable by the pod's group alone.
    defaultMode: 0440
    items:
      - { key: ca.crt, path: ca.crt }
      {{- if eq .tier "broker" }}
      {{- range $i := until (int .values.replicaCount) }}
      {{- $name := printf "broker-%d" (add (int $.values.nodeIdBase) $i) }}
      - { key: {{ $name }}.crt, path: {{ $name }}.crt }
      - { key: {{ $name }}.key, path: {{ $name }}.key }
      {{- end }}
      {{- else }}
      - { key: {{ .tier }}.crt, path: {{ .tier }}.crt }
      - { key: {{ .tier }}.key, path: {{ .tier }}.key }
      {{- end }}
{{- end }}
{{- end -}}

{{- define "strom.tls.mount" -}}
{{- if .root.Values.internalTls.enabled }}
- { name: tls, mountPath: /etc/strom-tls, readOnly: true }
{{- end }}
{{- end -}}
