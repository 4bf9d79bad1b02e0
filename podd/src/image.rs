//! An image is a name for a command: what a container executes.

use std::collections::BTreeMap;
use std::path::Path;

use thiserror::Error;

/// Repository of the built-in server that echoes.
const ECHO: &str = "minisvc/echo";
/// Repository of the built-in program that only waits.
const PAUSE: &str = "minisvc/pause";

/// What an image name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCommand {
    /// Program and arguments; the container's `args` follow.
    pub command: Vec<String>,
}

/// Why there is nothing to execute.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ImageError {
    /// Nobody said what the image means.
    #[error(
        "image {0:?} is not mapped to a command: give the container a `command`, or start minisvc with \
         `--image {1}=COMMAND…`"
    )]
    Unmapped(String, String),
    /// Neither an image nor a command.
    #[error("the container has neither an image nor a command")]
    Nothing,
}

/// Program and arguments of a container, before `$(VAR)` is expanded.
///
/// A `command` wins whatever the image; an image is looked up as written, then without tag and digest, then
/// without registry and `library/`.
///
/// # Errors
/// When neither the container nor the mapping names a program.
pub(crate) fn command_line(
    image: &str,
    command: &[String],
    args: &[String],
    images: &BTreeMap<String, ImageCommand>,
    builtin: &Path,
) -> Result<Vec<String>, ImageError> {
    let entry = if command.is_empty() { entry_point(image, images, builtin)? } else { command.to_vec() };
    Ok(entry.into_iter().chain(args.iter().cloned()).collect())
}

fn entry_point(
    image: &str,
    images: &BTreeMap<String, ImageCommand>,
    builtin: &Path,
) -> Result<Vec<String>, ImageError> {
    if image.is_empty() {
        return Err(ImageError::Nothing);
    }
    let bare = repository(image);
    let short = familiar(bare);
    if let Some(mapped) = [image, bare, short].into_iter().find_map(|name| images.get(name)) {
        return Ok(mapped.command.clone());
    }
    let hidden = match short {
        ECHO => "__echo",
        PAUSE => "__pause",
        _ => return Err(ImageError::Unmapped(image.to_owned(), short.to_owned())),
    };
    Ok(vec![builtin.to_string_lossy().into_owned(), hidden.to_owned()])
}

/// The image name without `:tag` and `@digest`. A colon before the last slash belongs to a registry's port.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// `docker.io/library/nginx` is what everybody calls `nginx`.
fn familiar(repository: &str) -> &str {
    let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

/// Whether the image is the built-in server, which wants to know its pod.
pub(crate) fn is_echo(image: &str) -> bool {
    familiar(repository(image)) == ECHO
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(image: &str, command: &[&str], args: &[&str]) -> Result<Vec<String>, ImageError> {
        let images = [("nginx", "/usr/sbin/nginx"), ("reg:5000/app:v2", "/bin/v2"), ("reg:5000/app", "/bin/app")];
        let images =
            images.map(|(name, program)| (name.to_owned(), ImageCommand { command: vec![program.to_owned()] }));
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        command_line(image, &own(command), &own(args), &BTreeMap::from(images), Path::new("/proc/self/exe"))
    }

    #[test]
    fn images_stand_for_commands() {
        type Words = &'static [&'static str];
        let table: [(&str, Words, Words, Words); 9] = [
            ("nginx", &[], &[], &["/usr/sbin/nginx"]),
            ("nginx:1.27", &[], &["-g", "daemon off;"], &["/usr/sbin/nginx", "-g", "daemon off;"]),
            ("docker.io/library/nginx@sha256:00", &[], &[], &["/usr/sbin/nginx"]),
            ("reg:5000/app:v2", &[], &[], &["/bin/v2"]),
            ("reg:5000/app:v3", &[], &[], &["/bin/app"]),
            ("nginx", &["/bin/sh"], &["-c", "true"], &["/bin/sh", "-c", "true"]),
            ("", &["/bin/true"], &[], &["/bin/true"]),
            ("minisvc/echo:latest", &[], &[], &["/proc/self/exe", "__echo"]),
            ("minisvc/pause", &[], &[], &["/proc/self/exe", "__pause"]),
        ];
        for (image, command, args, expected) in table {
            assert_eq!(line(image, command, args).expect(image), expected, "{image}");
        }
    }

    #[test]
    fn an_unmapped_image_says_what_to_type() {
        let error = line("redis:7", &[], &[]).expect_err("unmapped").to_string();
        assert!(error.contains("--image redis=COMMAND"), "{error}");
        assert_eq!(line("", &[], &["x"]), Err(ImageError::Nothing));
    }
}
