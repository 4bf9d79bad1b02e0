//! `images`: what image names stand for on this machine; and the files that map them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minisvc_podd::{ImageCommand, ImageListing};
use serde::Deserialize;
use serde_json::json;

use crate::args::{ImagesArgs, Output};
use crate::config::parse_image;
use crate::error::{CliError, Context as _};
use crate::output::{self, Table};

/// Names of one image in a row, unless all are asked for.
const NAMES: usize = 1;
/// Where programs are looked up: as containers have it, before their manifest changes it.
const NO_PATH: &str = "";

/// Lists the images that are known: the user's, the built-in ones and the ready ones.
///
/// # Errors
/// When a mapping cannot be read.
pub(crate) fn images(args: &ImagesArgs) -> Result<(), CliError> {
    let mut mapped = args.images.iter().map(|image| parse_image(image)).collect::<Result<BTreeMap<_, _>, _>>()?;
    for (name, command) in read(&args.files)? {
        mapped.entry(name).or_insert(command);
    }
    let mapped = mapped.into_iter().map(|(name, command)| (name, ImageCommand { command })).collect();
    let path = minisvc_podd::Config::new(Vec::new(), "").base_environment.remove("PATH");
    let path = path.as_deref().unwrap_or(NO_PATH);
    let list = minisvc_podd::list_images(&mapped, &|program| minisvc_podd::find_program(program, path));
    match args.output {
        Output::Json => output::print_json(&as_json(&list)),
        Output::Yaml => output::print_yaml(&as_json(&list)),
        Output::Name => output::print(
            &list.iter().flat_map(|image| &image.names).map(|name| format!("{name}\n")).collect::<String>(),
        ),
        Output::Wide => output::print(&render(&list, usize::MAX)),
        Output::Table => output::print(&render(&list, NAMES)),
    }
}

fn as_json(list: &[ImageListing]) -> serde_json::Value {
    let image = |image: &ImageListing| json!({"names": image.names, "command": image.command, "found": image.found, "package": image.package});
    list.iter().map(image).collect()
}

fn render(list: &[ImageListing], names: usize) -> String {
    let mut table = Table::new(&["IMAGE", "COMMAND", "HERE"]);
    for image in list {
        let here = match (&image.found, image.package) {
            (Some(place), _) => place.clone(),
            (None, Some(package)) => format!("missing: apt-get install {package}"),
            (None, None) => "missing".to_owned(),
        };
        let more = image.names.len().saturating_sub(names);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown: Vec<&str> = image.names.iter().take(names).map(String::as_str).collect();
        table.push(vec![shown.join(", ") + &more, image.command.clone(), here]);
    }
    table.render_all()
}

/// The images of a mapping file: names, each with a command as one line or as a list of words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    images: BTreeMap<String, Command>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Line(String),
    Words(Vec<String>),
}

/// The mappings of these files; in the order of the list the first that names an image counts.
///
/// # Errors
/// When a file cannot be read, or does not say what is expected, with what is.
pub(crate) fn read(files: &[PathBuf]) -> Result<BTreeMap<String, Vec<String>>, CliError> {
    let mut all = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
        for (name, command) in parse(path, &text)? {
            all.entry(name).or_insert(command);
        }
    }
    Ok(all)
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Vec<String>>, CliError> {
    let explain = |what: String| {
        CliError::usage(format!("{}: {what}", path.display()))
            .hint("write for example:  images: {nginx: /opt/nginx/sbin/nginx -g 'daemon off;', app: [./server, --port, \"80\"]}")
    };
    let file: File = serde_saphyr::from_str(text).map_err(|error| explain(error.to_string()))?;
    let words = |(name, command): (String, Command)| {
        let words = match command {
            Command::Line(line) => {
                shlex::split(&line).ok_or_else(|| explain(format!("image {name:?} has an open quote")))?
            }
            Command::Words(words) => words,
        };
        if name.is_empty() || words.is_empty() {
            return Err(explain(format!("image {name:?} lacks a name or a command")));
        }
        Ok((name, words))
    };
    file.images.into_iter().map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_file_has_lines_and_lists_of_words() {
        let text = "images:\n  nginx: /opt/nginx -g 'daemon off;'\n  reg:5000/app:v2: [./server, --port, \"80\"]\n";
        let images = parse(Path::new("images.yaml"), text).expect("legal");
        assert_eq!(images["nginx"], ["/opt/nginx", "-g", "daemon off;"]);
        assert_eq!(images["reg:5000/app:v2"], ["./server", "--port", "80"]);
    }

    #[test]
    fn what_is_wrong_with_a_mapping_file_is_told() {
        for (text, what) in [
            ("images: {a: \"'x\"}", "open quote"),
            ("images: {a: []}", "lacks a name or a command"),
            ("image: {a: b}", "image"),
            ("images: [", "images.yaml"),
        ] {
            let error = parse(Path::new("images.yaml"), text).expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn the_list_says_what_is_missing() {
        let image = |found: Option<&str>, package| ImageListing {
            names: vec!["redis".into(), "valkey/valkey".into()],
            command: "redis-server".into(),
            found: found.map(str::to_owned),
            package,
        };
        let all = [image(Some("/usr/bin/redis-server"), None), image(None, Some("redis-server")), image(None, None)];
        assert!(render(&all, 1).contains("redis and 1 more   redis-server   missing"));
        let text = render(&all, 2);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("redis, valkey/valkey   redis-server   /usr/bin/redis-server"), "{text}");
        assert!(lines[2].ends_with("missing: apt-get install redis-server") && lines[3].ends_with("missing"), "{text}");
    }
}
