//! What an image is called, without what does not matter for which program it stands for.

/// Registries that serve the images everybody means. In another one, `nginx` may be anything.
const PUBLIC: [&str; 11] = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
    "registry.k8s.io",
    "k8s.gcr.io",
    "gcr.io",
    "mirror.gcr.io",
    "quay.io",
    "ghcr.io",
    "public.ecr.aws",
];
/// The same for the regions of Google's registry: `us-docker.pkg.dev` and its like.
const PUBLIC_SUFFIX: &str = "-docker.pkg.dev";

/// The image name without `:tag` and `@digest`. A colon before the last slash belongs to a registry's port.
pub(crate) fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// The tag, if there is one.
pub(crate) fn tag(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    name.strip_prefix(repository(image))?.strip_prefix(':')
}

/// `docker.io/library/nginx` is what everybody calls `nginx`.
pub(crate) fn familiar(repository: &str) -> &str {
    let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

/// The name as the ready mappings have it: without a public registry; `None` for images of other registries.
pub(crate) fn public(repository: &str) -> Option<&str> {
    let name = match repository.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => {
            let known = PUBLIC.contains(&registry) || registry.ends_with(PUBLIC_SUFFIX);
            known.then_some(rest)?
        }
        _ => repository,
    };
    let name = name.strip_prefix("docker/").filter(|rest| rest.starts_with("library/")).unwrap_or(name);
    Some(name.strip_prefix("library/").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (image, repo, its_tag, name) in [
            ("nginx", "nginx", None, Some("nginx")),
            ("nginx:1.27", "nginx", Some("1.27"), Some("nginx")),
            ("docker.io/library/redis:7@sha256:00", "docker.io/library/redis", Some("7"), Some("redis")),
            ("redis@sha256:00", "redis", None, Some("redis")),
            (
                "registry.k8s.io/e2e-test-images/agnhost:2.53",
                "registry.k8s.io/e2e-test-images/agnhost",
                Some("2.53"),
                Some("e2e-test-images/agnhost"),
            ),
            ("public.ecr.aws/docker/library/httpd:2", "public.ecr.aws/docker/library/httpd", Some("2"), Some("httpd")),
            (
                "us-docker.pkg.dev/google-samples/containers/gke/hello-app:1.0",
                "us-docker.pkg.dev/google-samples/containers/gke/hello-app",
                Some("1.0"),
                Some("google-samples/containers/gke/hello-app"),
            ),
            ("reg:5000/nginx", "reg:5000/nginx", None, None),
            ("corp.example/nginx:1", "corp.example/nginx", Some("1"), None),
            ("localhost/nginx", "localhost/nginx", None, None),
            ("", "", None, Some("")),
        ] {
            assert_eq!((repository(image), tag(image), public(repository(image))), (repo, its_tag, name), "{image}");
        }
        assert_eq!(familiar("docker.io/library/nginx"), "nginx");
    }
}
