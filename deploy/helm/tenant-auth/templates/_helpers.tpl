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

{{- define "tenant-auth.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tenant-auth.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tenant-auth.labels" -}}
{{ include "tenant-auth.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
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

{{- /* What the service would refuse at the start is refused before anything is rolled out. */ -}}
{{- define "tenant-auth.validate" -}}
{{- with .Values -}}
{{- if not .database.url -}}
{{- fail "database.url must be set: libsql://… or https://… for Turso, http://… for a sqld nearby" -}}
{{- end -}}
{{- /* Here and not in the schema, which would repeat what may be a secret. */ -}}
{{- if not (regexMatch "^(libsql|https?)://[^@?]+([?]tls=0)?$" .database.url) -}}
{{- fail "database.url must begin with libsql://, https:// or http://, and hold no credentials: those belong into database.tokenSecret" -}}
{{- end -}}
{{- if and (not .database.tokenSecret.name) (not (hasPrefix "http://" .database.url)) (not (hasSuffix "?tls=0" .database.url)) -}}
{{- fail "database.tokenSecret.name must be set: a remote database needs a token" -}}
{{- end -}}
{{- if and (not .tls.secretName) (not .allowPlaintext) -}}
{{- fail "it must be encrypted: set tls.secretName; or allowPlaintext=true if the network in front of it is trusted" -}}
{{- end -}}
{{- if and (not .callersSecret.name) (not .allowAnonymous) -}}
{{- fail "callers must be known: set callersSecret.name; or allowAnonymous=true if the network in front of it is trusted" -}}
{{- end -}}
{{- if and .tls.clientCaSecret.name (not .tls.secretName) -}}
{{- fail "tls.clientCaSecret needs tls.secretName: without TLS nobody shows a certificate" -}}
{{- end -}}
{{- if and .tls.clientCaSecret.name (not .callersSecret.name) -}}
{{- fail "tls.clientCaSecret needs callersSecret.name: it says what the names in certificates may do" -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- $ours := include "tenant-auth.variables" . | fromYamlArray -}}
{{- range $variable := $ours -}}
{{- if hasKey $.Values.settings $variable.name -}}
{{- fail (printf "settings.%s is set by another value of this chart" $variable.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Secrets are files, so that they can be rotated without a restart, and stand in nobody's environment. */ -}}
{{- define "tenant-auth.variables" -}}
{{- with .Values -}}
- name: TENANT_AUTH_DATABASE_URL
  value: {{ .database.url | quote }}
{{- if .database.tokenSecret.name }}
- name: TENANT_AUTH_DATABASE_TOKEN_FILE
  value: {{ printf "/run/tenant-auth/database/%s" .database.tokenSecret.key | quote }}
{{- end }}
- name: TENANT_AUTH_MIGRATE
  value: {{ .database.migrate | quote }}
- name: TENANT_AUTH_CREATE_SCHEMA
  value: {{ .database.createSchema | quote }}
- name: TENANT_AUTH_LISTEN
  value: 0.0.0.0:50051
- name: TENANT_AUTH_OPS_LISTEN
  value: 0.0.0.0:50052
- name: TENANT_AUTH_DRAIN_DELAY
  value: {{ printf "%ds" (int .drainDelaySeconds) }}
- name: TENANT_AUTH_LOG_FORMAT
  value: json
- name: TENANT_AUTH_REQUIRE_CANONICAL_BUILD
  value: {{ .requireCanonicalBuild | quote }}
{{- if .allowPlaintext }}
- name: TENANT_AUTH_ALLOW_PLAINTEXT
  value: "true"
{{- end }}
{{- if .allowAnonymous }}
- name: TENANT_AUTH_ALLOW_ANONYMOUS
  value: "true"
{{- end }}
{{- if .pepperSecret.name }}
- name: TENANT_AUTH_PEPPER_FILE
  value: {{ printf "/run/tenant-auth/pepper/%s" .pepperSecret.key | quote }}
{{- end }}
{{- if .callersSecret.name }}
- name: TENANT_AUTH_CALLERS_FILE
  value: {{ printf "/run/tenant-auth/callers/%s" .callersSecret.key | quote }}
{{- end }}
{{- if .denySecret.name }}
- name: TENANT_AUTH_DENY_FILE
  value: {{ printf "/run/tenant-auth/denied/%s" .denySecret.key | quote }}
{{- end }}
{{- if .tls.secretName }}
- name: TENANT_AUTH_TLS_CERT_FILE
  value: /run/tenant-auth/tls/tls.crt
- name: TENANT_AUTH_TLS_KEY_FILE
  value: /run/tenant-auth/tls/tls.key
{{- end }}
{{- if .tls.clientCaSecret.name }}
- name: TENANT_AUTH_TLS_CLIENT_CA_FILE
  value: {{ printf "/run/tenant-auth/client-ca/%s" .tls.clientCaSecret.key | quote }}
{{- end }}
{{- if .otlpEndpoint }}
- name: TENANT_AUTH_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The Secrets that are mounted: the name of the mount, of the Secret, and of the keys of it. */ -}}
{{- define "tenant-auth.secrets" -}}
{{- with .Values -}}
{{- with .database.tokenSecret }}{{ if .name }}
- { mount: database, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .pepperSecret }}{{ if .name }}
- { mount: pepper, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .callersSecret }}{{ if .name }}
- { mount: callers, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .denySecret }}{{ if .name }}
- { mount: denied, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .tls }}{{ if .secretName }}
- { mount: tls, secret: {{ .secretName | quote }}, keys: [tls.crt, tls.key] }
{{- end }}{{ end }}
{{- with .tls.clientCaSecret }}{{ if .name }}
- { mount: client-ca, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- end }}
{{- end -}}
