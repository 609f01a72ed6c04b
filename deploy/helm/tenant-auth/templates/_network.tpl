{{- /* One rule of a policy: ports, and peers unless it allows all addresses. */ -}}
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

{{- /* Egress that both programs need: DNS, the database, the mesh. */ -}}
{{- define "tenant-auth.egress" -}}
{{- $policy := .Values.networkPolicy -}}
# DNS. A cache on the node (NodeLocal DNSCache) is not a pod, so peers would exclude it; OpenShift's DNS listens on
# 5353.
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
# The database, or its proxy.
{{- $url := default .Values.database.url (get .Values.settings "TENANT_AUTH_DATABASE_PROXY") }}
{{- $readUrl := default .Values.database.readUrl (get .Values.settings "TENANT_AUTH_DATABASE_PROXY") }}
{{- $ports := list (int $policy.database.port) }}
{{- if eq (int $policy.database.port) 0 }}
{{- $ports = list (int (include "tenant-auth.urlPort" $url)) }}
{{- if .Values.database.readUrl }}
{{- $ports = append $ports (int (include "tenant-auth.urlPort" $readUrl)) | uniq }}
{{- end }}
{{- end }}
{{ include "tenant-auth.rule" (dict "direction" "to" "ports" $ports "peers" $policy.database.peers) }}
{{- $mesh := include "tenant-auth.meshPorts" . | fromYaml }}
{{- with $mesh.controlPlane }}
# The mesh: the sidecar gets its certificates and endpoints from the control plane.
{{ include "tenant-auth.rule" (dict "direction" "to" "ports" . "peers" $policy.mesh.controlPlane) }}
{{- end }}
{{- with $mesh.peers }}
# The mesh: proxies use separate ports to reach each other's pods.
{{ include "tenant-auth.rule" (dict "direction" "to" "ports" .) }}
{{- end }}
{{- end -}}

{{- /* For each mesh: the ports of its control plane, the ports between its proxies, and the ports at which its proxy is probed
and scraped. Between its own sidecars Istio keeps the ports of the service; 15008 is for workloads without a sidecar. */ -}}
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
