{{- /* Names are quoted wherever they are used: one like 1e3 is a number to YAML. */ -}}
{{- define "tenant-auth.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* 52, so that "-headless" still fits behind it. */ -}}
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

{{- /* 52 in all, which is what a CronJob may have. */ -}}
{{- define "tenant-auth.reconcileName" -}}
{{- printf "%s-reconcile" (include "tenant-auth.fullname" . | trunc 42 | trimSuffix "-") -}}
{{- end -}}

{{- /* The name of the application is the same whatever objects are called: the alert rules select the job that the ServiceMonitor
makes of it, and the runbooks select pods by it. */ -}}
{{- define "tenant-auth.selectorLabels" -}}
app.kubernetes.io/name: tenant-auth
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Of another application: the Services, and whoever watches replicas, must not take its pods for replicas. */ -}}
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

{{- /* OpenShift gives each namespace user ids of its own, and refuses pods that ask for others. */ -}}
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

{{- /* The port of a URL: what it says, or what its scheme means. */ -}}
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
