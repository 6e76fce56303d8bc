// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	proxyVariable = "FAIRLEAD_PROXY_URL"
	// proxySecret has the way to the hub of an agent in the cluster. It stays when
	// the cluster has joined.
	proxySecret = "fairlead-proxy"
	keyProxyURL = "proxy-url"
	keyProxyCA  = "proxy-ca.crt"
	proxyFolder = "/etc/fairlead/proxy"
)

// proxyEnvironment is what a process needs to find the proxy. Its URL may have a
// password, and arguments are for everybody to see.
func (s *spoke) proxyEnvironment() []string {
	if s.proxyURL == "" {
		return nil
	}
	return []string{proxyVariable + "=" + s.proxyURL}
}

// keepProxyCA copies the proxy's CA to where the agent keeps its own files.
func (s *spoke) keepProxyCA() error {
	if s.proxyCA == "" {
		return nil
	}
	content, err := os.ReadFile(s.proxyCA)
	if err == nil {
		err = os.WriteFile(s.proxyCAFile(), content, 0o600) //nolint:gosec // the folder is the person's own choice
	}
	if err != nil {
		return fmt.Errorf("copying the CA of the proxy: %w", err)
	}
	return nil
}

func (s *spoke) proxyCAFile() string { return filepath.Join(s.dataDir, keyProxyCA) }

// proxyOf puts the way to the hub into a Secret, and from there into the agent.
func (d *deployment) proxyOf(ctx context.Context, object *appsv1.Deployment) error {
	if d.proxyURL == "" && d.proxyCA == "" {
		return nil
	}
	secret := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: proxySecret, Namespace: namespace},
		Data:       map[string][]byte{},
	}
	pod := &object.Spec.Template.Spec
	container := &pod.Containers[0]
	if d.proxyURL != "" {
		secret.Data[keyProxyURL] = []byte(d.proxyURL)
		container.Env = append(container.Env, corev1.EnvVar{Name: proxyVariable, ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: proxySecret}, Key: keyProxyURL},
		}})
	}
	if d.proxyCA != "" {
		content, err := os.ReadFile(d.proxyCA)
		if err != nil {
			return fmt.Errorf("reading the CA of the proxy: %w", err)
		}
		secret.Data[keyProxyCA] = content
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "proxy", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: proxySecret, Items: []corev1.KeyToPath{{Key: keyProxyCA, Path: keyProxyCA}}},
		}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "proxy", MountPath: proxyFolder, ReadOnly: true})
		container.Args = append(container.Args, "--proxy-ca-file="+proxyFolder+"/"+keyProxyCA)
	}
	return d.applyTyped(ctx, secret)
}
