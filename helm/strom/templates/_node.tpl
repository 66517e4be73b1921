{{/* The StatefulSet and headless Service of controllers or brokers; as "strom.pod.spec". */}}
{{- define "strom.node" -}}
{{- $full := include "strom.fullname" .root -}}
{{- $name := printf "%s-%s" $full .tier -}}
{{- $selector := printf "%s\napp.kubernetes.io/component: %s" (include "strom.selector" .root) .tier -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "strom.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .tier }}
spec:
  clusterIP: None
  # Nodes find each other before they are ready.
  publishNotReadyAddresses: true
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - { name: grpc, port: 9190, targetPort: grpc }
    - { name: admin, port: 9644, targetPort: admin }
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels:
    {{- include "strom.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .tier }}
spec:
  serviceName: {{ $name }}
  replicas: {{ .values.replicaCount }}
  # One alone never becomes ready where a quorum is needed.
  podManagementPolicy: Parallel
  updateStrategy: { type: RollingUpdate }
  persistentVolumeClaimRetentionPolicy: { whenDeleted: Retain, whenScaled: Retain }
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $selector | nindent 8 }}
      annotations:
        {{- include "strom.pod.annotations" . | nindent 8 }}
    spec:
      {{- include "strom.pod.spec" . | nindent 6 }}
      containers:
        - name: {{ .tier }}
          {{- include "strom.container" . | nindent 10 }}
          # The node id is the base plus the pod's number.
          command: ["/bin/sh", "-c"]
          args:
            - >-
              exec strom {{ .tier }} --properties /etc/strom/{{ .tier }}.properties
              --node-id $(( {{ int .values.nodeIdBase }} + ${POD_NAME##*-} ))
              {{- if and .root.Values.internalTls.enabled (eq .tier "broker") }}
              {{- range $kind, $suffix := dict "certificate" "crt" "key" "key" }}
              --set strom.grpc.tls.{{ $kind }}.file=/etc/strom-tls/broker-$(( {{ int $.values.nodeIdBase }} + ${POD_NAME##*-} )).{{ $suffix }}
              {{- end }}
              {{- end }}
          env:
            {{- include "strom.env" . | nindent 12 }}
            - name: STROM_LOG_DIRS
              value: /var/lib/strom
            - name: STROM_GRPC_LISTENER
              value: "0.0.0.0:9190"
            - name: STROM_GRPC_ADVERTISED
              value: "$(POD_NAME).{{ $name }}.{{ include "strom.domain" .root }}:9190"
            {{- with .values.rackFromPodLabel }}
            - name: STROM_BROKER_RACK
              valueFrom: { fieldRef: { fieldPath: "metadata.labels['{{ . }}']" } }
            {{- end }}
          ports:
            - { name: grpc, containerPort: 9190 }
            - { name: admin, containerPort: 9644 }
          volumeMounts:
            - { name: data, mountPath: /var/lib/strom }
            - { name: config, mountPath: /etc/strom, readOnly: true }
            - { name: tmp, mountPath: /tmp }
            {{- with include "strom.tls.mount" . | trim }}{{ . | nindent 12 }}{{ end }}
      volumes:
        - name: config
          configMap: { name: {{ $full }} }
        - name: tmp
          emptyDir: {}
        {{- with include "strom.tls.volume" . | trim }}{{ . | nindent 8 }}{{ end }}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- $selector | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .values.persistence.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: { storage: {{ .values.persistence.size }} }
{{- end -}}
