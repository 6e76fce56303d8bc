// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

// zoo is one manifest of each of many kinds, written as people write them: with defaults left out or spelled out, quantities in
// every form, empty maps and null timestamps.
func zoo() []string {
	return []string{
		webDeployment, webService,
		configMap("plain", `k: v, n: "1000m", empty: ""`),
		"{apiVersion: v1, kind: Secret, metadata: {name: opaque, namespace: NS}, type: Opaque, stringData: {a: b}, data: {c: ZA==}}",
		`{apiVersion: v1, kind: ServiceAccount, metadata: {name: sa, namespace: NS}, automountServiceAccountToken: false}`,
		`{apiVersion: v1, kind: Namespace, metadata: {name: NS-zoo, labels: {a: b}}}`,
		`{apiVersion: v1, kind: ResourceQuota, metadata: {name: quota, namespace: NS-zoo}, spec: {hard: {cpu: 1000m, memory: 1024Mi, pods: "10"}}}`,
		`{apiVersion: v1, kind: LimitRange, metadata: {name: limits, namespace: NS-zoo}, spec: {limits: [{type: Container, default: {cpu: "0.50"}}]}}`,
		`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: claim, namespace: NS}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}}`,
		`{apiVersion: v1, kind: PersistentVolume, metadata: {name: NS-pv}, spec: {capacity: {storage: 1024Mi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp}}}`,
		`{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: NS-priority}, value: 10, globalDefault: false}`,
		`{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: NS-storage}, provisioner: example.com/none}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: role, namespace: NS}, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: binding, namespace: NS}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: role}, subjects: [{kind: ServiceAccount, name: sa}]}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: NS-cr}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}, rules: []}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NS-crb}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS-cr}, subjects: [{kind: Group, name: nobody}]}`,
		`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: policy, namespace: NS}, spec: {podSelector: {}, ingress: [{ports: [{port: 80}], from: [{podSelector: {matchLabels: {a: b}}}]}]}}`,
		`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: ingress, namespace: NS}, spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}`,
		`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: budget, namespace: NS}, spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}}`,
		`{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: scaler, namespace: NS}, spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}}`,
		`{apiVersion: batch/v1, kind: Job, metadata: {name: job, namespace: NS}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`,
		`{apiVersion: batch/v1, kind: CronJob, metadata: {name: cron, namespace: NS}, spec: {schedule: "* * * * *", suspend: false, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i, ports: [{containerPort: 1}, {containerPort: 1, protocol: UDP}]}]}}}}}}`,
		`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: daemon, namespace: NS}, spec: {selector: {matchLabels: {a: d}}, template: {metadata: {labels: {a: d}}, spec: {hostNetwork: false, tolerations: [{operator: Exists}], containers: [{name: c, image: i, livenessProbe: {httpGet: {port: 80}}, securityContext: {}}]}}}}`,
		`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: state, namespace: NS}, spec: {serviceName: web, selector: {matchLabels: {a: s}}, template: {metadata: {labels: {a: s}}, spec: {containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: cm, configMap: {name: plain}}, {name: e, emptyDir: {}}]}}, volumeClaimTemplates: [{metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 0.5Gi}}}}]}}`,
		`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: NS-hook}, webhooks: [{name: a.example.com, failurePolicy: Ignore, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: "https://127.0.0.1:1/none"}, rules: [{apiGroups: [none.example.com], apiVersions: ["*"], operations: [CREATE], resources: [none]}]}]}`,
		`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: NS-vap}, spec: {matchConstraints: {resourceRules: [{apiGroups: [none.example.com], apiVersions: [v1], operations: [CREATE], resources: [none]}]}, validations: [{expression: "true"}]}}`,
		`{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: lease, namespace: NS}, spec: {holderIdentity: me, leaseDurationSeconds: 10}}`,
		`{apiVersion: test.fairlead.dev/v1, kind: Widget, metadata: {name: w, namespace: NS}, spec: {size: 1, color: null, free: {memory: 1024Mi, list: [1, 2], nothing: {}}, parts: [{name: b}, {name: a, count: 2}]}}`,
	}
}
