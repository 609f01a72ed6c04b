{{- /* A value of `settings` as text for the service. A number of a values file is a float, and would be written as 2e+06;
and YAML reads a bare off as false. */ -}}
{{- define "tenant-auth.setting" -}}
{{- if kindIs "string" .value -}}
{{- .value -}}
{{- else if and (kindIs "bool" .value) (not .value) (regexMatch "_(INTERVAL|LISTEN)$" .name) -}}
off
{{- else -}}
{{- toJson .value -}}
{{- end -}}
{{- end -}}

{{- /* What each of the programs needs to reach the database. Secrets are files, so that they can be rotated without a restart and
are in no environment. */ -}}
{{- define "tenant-auth.databaseVariables" -}}
{{- with .Values -}}
- name: TENANT_AUTH_DATABASE_URL
  value: {{ .database.url | quote }}
{{- if .database.tokenSecret.name }}
- name: TENANT_AUTH_DATABASE_TOKEN_FILE
  value: {{ printf "/run/tenant-auth/database/%s" .database.tokenSecret.key | quote }}
{{- end }}
{{- if or .database.caSecret.name .database.caConfigMap.name }}
# Added to the image's own, which a trace collector may need.
- name: SSL_CERT_DIR
  value: /etc/ssl/certs:/run/tenant-auth/database-ca
{{- end }}
- name: TENANT_AUTH_LOG_FORMAT
  value: json
- name: TENANT_AUTH_REQUIRE_CANONICAL_BUILD
  value: {{ .requireCanonicalBuild | quote }}
{{- end }}
{{- end -}}

{{- define "tenant-auth.variables" -}}
{{ include "tenant-auth.databaseVariables" . }}
{{- $replicas := printf "%s://%s-headless.%s.svc:50051" (ternary "http" "https" (empty .Values.tls.secretName)) (include "tenant-auth.fullname" .) .Release.Namespace }}
{{- $address := ternary (printf "[%s]" .Values.listenAddress) .Values.listenAddress (contains ":" .Values.listenAddress) }}
{{- with .Values }}
{{- if .database.readUrl }}
- name: TENANT_AUTH_DATABASE_READ_URL
  value: {{ .database.readUrl | quote }}
{{- if .database.readTokenSecret.name }}
- name: TENANT_AUTH_DATABASE_READ_TOKEN_FILE
  value: {{ printf "/run/tenant-auth/database-read/%s" .database.readTokenSecret.key | quote }}
{{- end }}
{{- end }}
- name: TENANT_AUTH_MIGRATE
  value: {{ .database.migrate | quote }}
- name: TENANT_AUTH_CREATE_SCHEMA
  value: {{ .database.createSchema | quote }}
- name: TENANT_AUTH_LISTEN
  value: {{ printf "%s:50051" $address | quote }}
- name: TENANT_AUTH_OPS_LISTEN
  value: {{ printf "%s:50052" $address | quote }}
- name: TENANT_AUTH_FORWARD_LISTEN
  value: {{ ternary (printf "%s:50053" $address) "off" .forward.enabled | quote }}
{{- if and .forward.enabled .forward.trustedPeers }}
- name: TENANT_AUTH_FORWARD_TRUSTED_PEERS
  value: {{ join "," .forward.trustedPeers | quote }}
{{- end }}
{{- if .console.enabled }}
- name: TENANT_AUTH_CONSOLE_LISTEN
  value: "127.0.0.1:50054"
- name: TENANT_AUTH_CONSOLE_PEERS
  value: {{ $replicas | quote }}
{{- if .console.peersTokenSecret.name }}
- name: TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE
  value: {{ printf "/run/tenant-auth/console-peers/%s" .console.peersTokenSecret.key | quote }}
{{- end }}
{{- end }}
{{- if .principal.keysSecret.name }}
- name: TENANT_AUTH_PRINCIPAL_KEYS_FILE
  value: {{ printf "/run/tenant-auth/principal/%s" .principal.keysSecret.key | quote }}
- name: TENANT_AUTH_PRINCIPAL_ISSUER
  value: {{ .principal.issuer | quote }}
{{- end }}
- name: TENANT_AUTH_DRAIN_DELAY
  value: {{ printf "%ds" (int .drainDelaySeconds) }}
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

{{- /* Settings by a pattern of their names. */ -}}
{{- define "tenant-auth.settings" -}}
{{- $pattern := .pattern -}}
{{- range $name, $value := .settings }}
{{- if regexMatch $pattern $name }}
- name: {{ $name }}
  value: {{ include "tenant-auth.setting" (dict "name" $name "value" $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Mounts of the database's files: the name of the mount, the volume's source, and its keys. */ -}}
{{- define "tenant-auth.databaseFiles" -}}
{{- with .Values.database.tokenSecret }}{{ if .name }}
- { mount: database, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .Values.database.caSecret }}{{ if .name }}
- { mount: database-ca, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .Values.database.caConfigMap }}{{ if .name }}
- { mount: database-ca, configMap: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- end -}}

{{- define "tenant-auth.files" -}}
{{ include "tenant-auth.databaseFiles" . }}
{{- with .Values -}}
{{- with .database.readTokenSecret }}{{ if .name }}
- { mount: database-read, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
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
{{- if .console.enabled }}{{ with .console.peersTokenSecret }}{{ if .name }}
- { mount: console-peers, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}{{ end }}
{{- with .principal.keysSecret }}{{ if .name }}
- { mount: principal, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- with .tls }}{{ if .secretName }}
- { mount: tls, secret: {{ .secretName | quote }}, keys: [tls.crt, tls.key] }
{{- end }}{{ end }}
{{- with .tls.clientCaSecret }}{{ if .name }}
- { mount: client-ca, secret: {{ .name | quote }}, keys: [{{ .key | quote }}] }
{{- end }}{{ end }}
{{- end }}
{{- end -}}

{{- /* Directories rather than subPath, which would not follow a rotation. */ -}}
{{- define "tenant-auth.volumeMounts" -}}
{{- range . }}
- name: {{ .mount }}
  mountPath: /run/tenant-auth/{{ .mount }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "tenant-auth.volumes" -}}
{{- range . }}
- name: {{ .mount }}
  {{- if .secret }}
  secret:
    secretName: {{ .secret | quote }}
  {{- else }}
  configMap:
    name: {{ .configMap | quote }}
  {{- end }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end }}
{{- end -}}
