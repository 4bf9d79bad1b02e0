# SCTP between pods of a whole lab, through a Service.
must modprobe sctp
cat >/tmp/sctp.yaml <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  containers:
  - {name: main, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec, --sctp-port=8132], ports: [{containerPort: 8132, protocol: SCTP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers:
  - {name: main, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports:
  - {name: associations, port: 132, targetPort: 8132, protocol: SCTP}
YAML
must minisvc up --detach --wait --dual-stack -f /tmp/sctp.yaml
vip=$(minisvc get svc server -o jsonpath='{.spec.clusterIP}')
pod=$(minisvc get pod server -o jsonpath='{.status.podIP}')
