//! The Debian package: the command, manual pages, completions. No unit and no user; tercet makes those on machines.

use anyhow::Result;

use super::archive::{Entry, ar, gzip, tar};
use super::{Content, SUMMARY};

/// The name and the bytes of the package (deb(5)).
pub(super) fn package(content: &Content<'_>) -> Result<(String, Vec<u8>)> {
    let Content { version, platform, .. } = content;
    let mut files = vec![
        Entry::program("./usr/bin/tercet", content.binary),
        Entry::file("./usr/share/doc/tercet/copyright", format!("{}\n{}", content.licence, content.licences)),
        Entry::file("./usr/share/doc/tercet/tercet.schema.json", &content.schema),
    ];
    for (name, page) in &content.manual {
        files.push(Entry::file(format!("./usr/share/man/man1/{name}.gz"), gzip(page)?));
    }
    for (shell, script) in &content.completions {
        let path = match *shell {
            "bash" => "bash-completion/completions/tercet",
            "zsh" => "zsh/vendor-completions/_tercet",
            _ => "fish/vendor_completions.d/tercet.fish",
        };
        files.push(Entry::file(format!("./usr/share/{path}"), script));
    }
    let size: usize = files.iter().map(|file| file.bytes.len()).sum::<usize>() / 1024;
    let control = format!(
        "Package: tercet\nVersion: {version}\nArchitecture: {}\nMaintainer: the tercet authors <tercet@localhost>\n\
         Installed-Size: {size}\nDepends: libc6 (>= 2.34), libgcc-s1\nSuggests: postgresql\nSection: database\n\
         Priority: optional\nDescription: {SUMMARY}\n One binary with a load balancer, a PostgREST-compatible data API and a supervisor\n \
         for PostgreSQL: tercet up on one machine, tercet apply on several.\n",
        platform.debian
    );
    let control = gzip(&tar(vec![Entry::file("./control", control)]))?;
    let data = gzip(&tar(files))?;
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)];
    Ok((format!("tercet_{version}_{}.deb", platform.debian), ar(&members)))
}
