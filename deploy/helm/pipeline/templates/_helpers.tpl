{{/* What everything is called: of at most 34 characters, so that the labels of workers hold it as it is. */}}
{{- define "pipeline.name" -}}
{{- $name := ternary .Release.Name (printf "%s-pipeline" .Release.Name) (contains "pipeline" .Release.Name) -}}
{{- $name | trunc 34 | trimSuffix "-" -}}
{{- end -}}

{{- define "pipeline.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "pipeline.labels" -}}
app.kubernetes.io/name: pipeline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pipeline.gateway" -}}
{{ include "pipeline.labels" . }}
app.kubernetes.io/component: gateway
{{- end -}}

{{/* The label by which the launcher knows its workers, and their policies too. */}}
{{- define "pipeline.workers" -}}
app.kubernetes.io/component: worker
pipeline-inference/service: {{ include "pipeline.name" . }}
{{- end -}}

{{- define "pipeline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pipeline.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{/* What a worker's Pod has beside what the launcher gives it. */}}
{{- define "pipeline.workerTemplate" -}}
{{- $container := dict "name" "worker" "image" (include "pipeline.image" .) "imagePullPolicy" .Values.image.pullPolicy -}}
{{- $spec := dict "containers" (list $container) -}}
{{- with .Values.image.pullSecrets -}}
{{- $secrets := list -}}
{{- range . }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- $_ := set $spec "imagePullSecrets" $secrets -}}
{{- end -}}
{{- $labels := dict "app.kubernetes.io/instance" .Release.Name -}}
{{- $given := deepCopy .Values.workers.template -}}
{{- $named := list -}}
{{- range (dig "spec" "containers" list $given) -}}
{{- $named = append $named (ternary (merge (deepCopy .) $container) . (eq .name "worker")) -}}
{{- end -}}
{{- $pod := merge (dict "metadata" (dict "labels" $labels)) $given (dict "spec" $spec) -}}
{{- if $named -}}
{{- $_ := set $pod.spec "containers" $named -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end -}}
