{{- /* Rejects what the service, or Kubernetes, would refuse, before anything is rolled out. */ -}}
{{- define "tenant-auth.validate" -}}
{{- include "tenant-auth.validateDatabase" . -}}
{{- include "tenant-auth.validateAccess" . -}}
{{- include "tenant-auth.validateFrontDoors" . -}}
{{- include "tenant-auth.validateNames" . -}}
{{- include "tenant-auth.validateMemory" . -}}
{{- with .Values -}}
{{- if not .image.repository -}}
{{- fail "image.repository must be set: where you have pushed the image of deploy/docker/Dockerfile, or of a release" -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.hosts) -}}
{{- fail "ingress.hosts must name at least one host: ingress.enabled is true" -}}
{{- end -}}
{{- if and .grpcRoute.enabled (not .grpcRoute.parentRefs) -}}
{{- fail "grpcRoute.parentRefs must name a Gateway: grpcRoute.enabled is true" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tenant-auth.validateDatabase" -}}
{{- with .Values.database -}}
{{- if not .url -}}
{{- fail "database.url must be set: libsql://… or https://… for Turso, http://… for sqld on a local network" -}}
{{- end -}}
{{- /* Checked here and not in the schema, whose message would repeat a possible secret. */ -}}
{{- if not (regexMatch "^(libsql|https?)://[^@?]+([?]tls=0)?$" .url) -}}
{{- fail "database.url must begin with libsql://, https:// or http://, and hold no credentials: put those into database.tokenSecret" -}}
{{- end -}}
{{- if and (not .tokenSecret.name) (not (hasPrefix "http://" .url)) (not (hasSuffix "?tls=0" .url)) -}}
{{- fail "database.tokenSecret.name must be set: a remote database needs a token" -}}
{{- end -}}
{{- if .readUrl -}}
{{- if not (regexMatch "^(libsql|https?)://[^@?]+([?]tls=0)?$" .readUrl) -}}
{{- fail "database.readUrl must begin with libsql://, https:// or http://, and hold no credentials: put those into database.readTokenSecret" -}}
{{- end -}}
{{- if eq (trimSuffix "/" .readUrl) (trimSuffix "/" .url) -}}
{{- fail "database.readUrl must not be database.url: remove it, or set it to that of a read replica" -}}
{{- end -}}
{{- if and (not .tokenSecret.name) (not .readTokenSecret.name) (not (hasPrefix "http://" .readUrl)) (not (hasSuffix "?tls=0" .readUrl)) -}}
{{- fail "database.readTokenSecret.name must be set: a remote database needs a token" -}}
{{- end -}}
{{- else if .readTokenSecret.name -}}
{{- fail "database.readTokenSecret is not used without database.readUrl: set that, or remove this" -}}
{{- end -}}
{{- if and .caSecret.name .caConfigMap.name -}}
{{- fail "database.caSecret and database.caConfigMap exclude each other: name one" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tenant-auth.validateAccess" -}}
{{- with .Values -}}
{{- if and (not .tls.secretName) (not .allowPlaintext) -}}
{{- fail "TLS is required: set tls.secretName; or allowPlaintext=true if the network in front of the service is trusted" -}}
{{- end -}}
{{- if and (not .callersSecret.name) (not .allowAnonymous) -}}
{{- fail "callers must be known: set callersSecret.name; or allowAnonymous=true if the network in front of the service is trusted" -}}
{{- end -}}
{{- if and .tls.clientCaSecret.name (not .tls.secretName) -}}
{{- fail "tls.clientCaSecret needs tls.secretName: without TLS no client presents a certificate" -}}
{{- end -}}
{{- if and .tls.clientCaSecret.name (not .callersSecret.name) -}}
{{- fail "tls.clientCaSecret needs callersSecret.name: the callers file assigns roles to the names in certificates" -}}
{{- end -}}
{{- if and .allowAnonymous (include "tenant-auth.exposed" $) (not (and .networkPolicy.enabled .networkPolicy.callers)) -}}
{{- fail "allowAnonymous with a Service, an Ingress or a GRPCRoute that is reachable from outside would let anybody administer: set callersSecret.name, or restrict callers with networkPolicy.callers" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tenant-auth.validateFrontDoors" -}}
{{- with .Values -}}
{{- if and .forward.enabled (eq (int .forward.port) (int .service.port)) -}}
{{- fail "forward.port must differ from service.port: both are ports of one Service" -}}
{{- end -}}
{{- if and .forward.enabled .allowAnonymous (ne .service.type "ClusterIP") (not (and .networkPolicy.enabled .networkPolicy.proxies)) -}}
{{- fail "allowAnonymous with forward.enabled and a Service that is reachable from outside would let anybody try keys: set callersSecret.name, or restrict proxies with networkPolicy.proxies" -}}
{{- end -}}
{{- if and .console.enabled (not .allowAnonymous) (not .console.peersTokenSecret.name) -}}
{{- fail "console.peersTokenSecret.name must be set: a console asks the other replicas, which know callers by their tokens" -}}
{{- end -}}
{{- if and .principal.keysSecret.name (not .principal.issuer) -}}
{{- fail "principal.issuer must be set: verifiers of principal tokens compare it" -}}
{{- end -}}
{{- if and .principal.issuer (not .principal.keysSecret.name) -}}
{{- fail "principal.keysSecret.name must be set: principal.issuer signs nothing without keys" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Values that would silently override another value. */ -}}
{{- define "tenant-auth.validateNames" -}}
{{- $fullname := include "tenant-auth.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- fail (printf "%q cannot be the name of a Service, which begins with a letter and has a-z, 0-9 and -: set fullnameOverride" $fullname) -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $variable := include "tenant-auth.variables" . | fromYamlArray -}}
{{- $_ := set $taken $variable.name true -}}
{{- end -}}
{{- range $name, $_ := .Values.settings -}}
{{- if hasKey $taken $name -}}
{{- fail (printf "settings.%s is set by another value of this chart" $name) -}}
{{- end -}}
{{- $_ := set $taken $name true -}}
{{- end -}}
{{- range $variable := .Values.extraEnv -}}
{{- if hasKey $taken $variable.name -}}
{{- fail (printf "extraEnv: %s is set already, by another value of this chart, by settings, or twice" $variable.name) -}}
{{- end -}}
{{- $_ := set $taken $variable.name true -}}
{{- end -}}
{{- $mounts := dict -}}
{{- range $file := include "tenant-auth.files" . | fromYamlArray -}}
{{- $_ := set $mounts $file.mount true -}}
{{- end -}}
{{- range $volume := .Values.extraVolumes -}}
{{- if hasKey $mounts $volume.name -}}
{{- fail (printf "extraVolumes: %s is the name of a volume that is there already" $volume.name) -}}
{{- end -}}
{{- $_ := set $mounts $volume.name true -}}
{{- end -}}
{{- range $where, $labels := dict "podLabels" .Values.podLabels "serviceMonitor.labels" .Values.serviceMonitor.labels "prometheusRule.labels" .Values.prometheusRule.labels "dashboard.labels" .Values.dashboard.labels "reconcile.podLabels" .Values.reconcile.podLabels -}}
{{- range $name, $_ := $labels -}}
{{- if or (hasPrefix "app.kubernetes.io/" $name) (eq $name "helm.sh/chart") -}}
{{- fail (printf "%s must not set %s: Services, policies, alert rules and runbooks find the pods by it" $where $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
