{{- /* Names are quoted wherever they are used: YAML would read one like 1e3 as a number. */ -}}
{{- define "tenant-auth.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 52 characters, so that "-headless" can be appended. */ -}}
{{- define "tenant-auth.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tenant-auth.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* At most 52 characters in all, the limit for a CronJob's name. */ -}}
{{- define "tenant-auth.reconcileName" -}}
{{- printf "%s-reconcile" (include "tenant-auth.fullname" . | trunc 42 | trimSuffix "-") -}}
{{- end -}}

{{- /* The name of the application is constant, independent of the objects' names: the alert rules select the job that the ServiceMonitor
derives from it, and the runbooks select pods by it. */ -}}
{{- define "tenant-auth.selectorLabels" -}}
app.kubernetes.io/name: tenant-auth
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Another application name: Services and monitoring must not mistake the Job's pods for replicas. */ -}}
{{- define "tenant-auth.reconcileSelectorLabels" -}}
app.kubernetes.io/name: tenant-auth-reconcile
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "tenant-auth.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{- define "tenant-auth.labels" -}}
{{ include "tenant-auth.selectorLabels" . }}
{{ include "tenant-auth.commonLabels" . }}
{{- end -}}

{{- define "tenant-auth.reconcileLabels" -}}
{{ include "tenant-auth.reconcileSelectorLabels" . }}
{{ include "tenant-auth.commonLabels" . }}
{{- end -}}

{{- define "tenant-auth.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tenant-auth.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tenant-auth.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* OpenShift assigns user ids to each namespace, and rejects pods that request others. */ -}}
{{- define "tenant-auth.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (or (eq .Values.openshift "yes") (and (eq .Values.openshift "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1"))) }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tenant-auth.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Whether callers come from outside the cluster, or through a proxy of their own namespace. */ -}}
{{- define "tenant-auth.exposed" -}}
{{- if or (ne .Values.service.type "ClusterIP") .Values.ingress.enabled .Values.grpcRoute.enabled }}yes{{ end -}}
{{- end -}}

{{- /* The port of a URL: the explicit one, or the default of its scheme. */ -}}
{{- define "tenant-auth.urlPort" -}}
{{- $url := urlParse . -}}
{{- $given := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- if $given -}}
{{- $given -}}
{{- else if or (eq $url.scheme "http") (contains "tls=0" $url.query) -}}
80
{{- else -}}
443
{{- end -}}
{{- end -}}
