{{- /* Where a policy sends or lets in: ports, and peers unless those are everywhere. */ -}}
{{- define "tenant-auth.rule" -}}
- ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .peers }}
  {{ $.direction }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* Names, the database, the mesh: what each of the programs has to reach. */ -}}
{{- define "tenant-auth.egress" -}}
{{- $policy := .Values.networkPolicy -}}
# Names. A cache on the node (NodeLocal DNSCache) is no pod, so that peers would shut it out; OpenShift's DNS listens on 5353.
- ports:
    {{- range $policy.dns.ports }}
    - port: {{ int . }}
      protocol: UDP
    - port: {{ int . }}
      protocol: TCP
    {{- end }}
  {{- with $policy.dns.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
# The database, or the proxy that leads to it.
{{- $url := default .Values.database.url (get .Values.settings "TENANT_AUTH_DATABASE_PROXY") }}
{{- $port := ternary (include "tenant-auth.urlPort" $url) (toString (int $policy.database.port)) (eq (int $policy.database.port) 0) }}
{{ include "tenant-auth.rule" (dict "direction" "to" "ports" (list (int $port)) "peers" $policy.database.peers) }}
{{- $mesh := include "tenant-auth.meshPorts" . | fromYaml }}
{{- with $mesh.controlPlane }}
# The mesh: what the proxy beside the service needs to have certificates and to know where others are.
{{ include "tenant-auth.rule" (dict "direction" "to" "ports" . "peers" $policy.mesh.controlPlane) }}
{{- end }}
{{- with $mesh.peers }}
# The mesh: proxies reach each other's pods by ports of their own.
{{ include "tenant-auth.rule" (dict "direction" "to" "ports" .) }}
{{- end }}
{{- end -}}

{{- /* Of each mesh: the ports of its control plane, those by which proxies reach each other, and those at which its proxy is probed
and scraped. Between its own sidecars Istio keeps the ports of the service; 15008 is for what has none. */ -}}
{{- define "tenant-auth.meshPorts" -}}
{{- $kind := .Values.networkPolicy.mesh.kind -}}
{{- if eq $kind "istio" -}}
{ controlPlane: [15012], peers: [15008], proxy: [15020, 15021, 15090] }
{{- else if eq $kind "istio-ambient" -}}
{ controlPlane: [], peers: [15008], proxy: [] }
{{- else if eq $kind "linkerd" -}}
{ controlPlane: [8080, 8086, 8090], peers: [4143], proxy: [4191] }
{{- else -}}
{ controlPlane: [], peers: [], proxy: [] }
{{- end -}}
{{- end -}}
