{{/* Names, labels and addresses. */}}

{{- define "strom.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Without versions: selectors never change. */}}
{{- define "strom.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "strom.labels" -}}
{{ include "strom.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: strom
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "strom.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "strom.domain" -}}
{{- printf "%s.svc.%s" .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{/* id@host:port of every controller: the members of the quorum. */}}
{{- define "strom.controllers" -}}
{{- $full := include "strom.fullname" . -}}
{{- $list := list -}}
{{- range $i := until (int .Values.controller.replicaCount) -}}
{{- $host := printf "%s-controller-%d.%s-controller.%s" $full $i $full (include "strom.domain" $) -}}
{{- $list = append $list (printf "%d@%s:9190" (add (int $.Values.controller.nodeIdBase) $i) $host) -}}
{{- end -}}
{{- join "," $list -}}
{{- end -}}

{{/* Given, else what the first install made up, else made up now. */}}
{{- define "strom.clusterId" -}}
{{- $kept := lookup "v1" "Secret" .Release.Namespace (printf "%s-cluster" (include "strom.fullname" .)) -}}
{{- if $kept -}}
{{- $id := index $kept.data "cluster-id" | b64dec -}}
{{- if and .Values.clusterId (ne .Values.clusterId $id) -}}
{{- fail (printf "clusterId is %s, but this release is cluster %s" .Values.clusterId $id) -}}
{{- end -}}
{{- $id -}}
{{- else if .Values.clusterId -}}
{{- .Values.clusterId -}}
{{- else -}}
{{- randBytes 16 | replace "+" "-" | replace "/" "_" | trimSuffix "==" -}}
{{- end -}}
{{- end -}}

{{/* Helm reads numbers as floats; 1e+06 is no Kafka value. */}}
{{- define "strom.properties" -}}
{{- range $key, $value := . }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
{{ $key }}={{ int64 $value }}
{{- else }}
{{ $key }}={{ $value }}
{{- end }}
{{- end }}
{{- end -}}
