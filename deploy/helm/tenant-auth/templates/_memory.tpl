{{- /* A Kubernetes quantity in MiB, rounded down; empty if the text is not a quantity. */ -}}
{{- define "tenant-auth.mebibytes" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]+)?" $text -}}
{{- $suffix := trimPrefix $number $text -}}
{{- $units := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- if and $number (hasKey $units $suffix) -}}
{{- divf (mulf (float64 $number) (get $units $suffix)) 1048576.0 | floor | int64 -}}
{{- end -}}
{{- end -}}

{{- /* A number from `settings`, or the service's default. */ -}}
{{- define "tenant-auth.count" -}}
{{- $given := get .settings .name | toString -}}
{{- ternary (float64 $given | int64) .default (regexMatch "^[0-9.e+]+$" $given) -}}
{{- end -}}

{{- /* The service's memory must fit the limit, or the kernel kills the replica when it is most needed. A weight unit of a key or a
session is 1 KiB at most, a negative entry of a key or a session 400 bytes, a queued usage event 512; everything else (connections,
in-flight requests and responses, recent writes) is bounded too, and fits 269 MiB. The defaults fit 512 MiB. */ -}}
{{- define "tenant-auth.validateMemory" -}}
{{- $limit := dig "limits" "memory" "" .Values.resources -}}
{{- if ne (toString $limit) "" -}}
{{- $mebibytes := include "tenant-auth.mebibytes" $limit -}}
{{- if eq $mebibytes "" -}}
{{- fail (printf "resources.limits.memory is %q, which is not a quantity such as 512Mi or 1Gi" (toString $limit)) -}}
{{- end -}}
{{- $settings := .Values.settings -}}
{{- $keys := include "tenant-auth.count" (dict "settings" $settings "name" "TENANT_AUTH_CACHE_KEYS" "default" 100000) | int64 -}}
{{- $sessions := include "tenant-auth.count" (dict "settings" $settings "name" "TENANT_AUTH_CACHE_SESSIONS" "default" 100000) | int64 -}}
{{- $absences := include "tenant-auth.count" (dict "settings" $settings "name" "TENANT_AUTH_CACHE_NEGATIVE_ENTRIES" "default" 60000) | int64 -}}
{{- $events := include "tenant-auth.count" (dict "settings" $settings "name" "TENANT_AUTH_USAGE_QUEUE" "default" 20000) | int64 -}}
{{- $needed := add (div (add (mul $keys 1024) (mul $sessions 1024) (mul $absences 800) (mul (max 0 (sub $events 20000)) 512)) 1048576) 270 -}}
{{- if lt (int64 $mebibytes) $needed -}}
{{- fail (printf "resources.limits.memory is %q, which is %s MiB, but the service may need %dMi: with a cache capacity of %d for keys (TENANT_AUTH_CACHE_KEYS), %d for sessions (TENANT_AUTH_CACHE_SESSIONS) and %d for unknown keys (TENANT_AUTH_CACHE_NEGATIVE_ENTRIES), and a queue of %d usage events (TENANT_AUTH_USAGE_QUEUE). Set resources.limits.memory to %dMi or more, or lower these settings" (toString $limit) $mebibytes $needed $keys $sessions $absences $events $needed) -}}
{{- end -}}
{{- end -}}
{{- end -}}
