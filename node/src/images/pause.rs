//! The pause program: a static ELF executable of a few hundred bytes, made here.
//!
//! It is the first process of every pod and holds the pod's namespaces. It blocks SIGINT, SIGTERM and SIGCHLD and waits
//! for them in a loop: on the first two it exits, on the last it reaps every zombie, since in a pod with a shared
//! process namespace it is init. Blocked signals reach a process 1 although it has no handlers.

/// x86_64: `rt_sigprocmask`, then `rt_sigtimedwait` in a loop; `wait4(-1, NULL, WNOHANG, NULL)` on SIGCHLD.
const X86_64: &str = "\
    b80e000000 31ff 488d3554000000 31d2 41ba08000000 0f05 \
    b880000000 488d3d3e000000 31f6 31d2 41ba08000000 0f05 \
    83f811 7413 83f802 7405 83f80f 75d9 \
    b83c000000 31ff 0f05 \
    b83d000000 83cfff 31f6 ba01000000 4531d2 0f05 85c0 7fe8 ebb6 \
    0240010000000000";

/// aarch64: the same steps.
const AARCH64: &str = "\
    e81080d2 000080d2 81030010 020080d2 030180d2 010000d4 \
    281180d2 e0020010 010080d2 020080d2 030180d2 010000d4 \
    1f440071 00010054 1f080071 60000054 1f3c0071 a1feff54 \
    a80b80d2 000080d2 010000d4 \
    882080d2 00008092 010080d2 220080d2 030080d2 010000d4 1f000071 2cffff54 e9ffff17 \
    0240010000000000";

/// One processor's program.
#[derive(Debug)]
pub(super) struct Program {
    /// The processor's name in image configurations.
    pub(super) architecture: &'static str,
    machine: u16,
    code: &'static str,
}

const PROGRAMS: [(&str, Program); 2] = [
    (
        "x86_64",
        Program {
            architecture: "amd64",
            machine: 62,
            code: X86_64,
        },
    ),
    (
        "aarch64",
        Program {
            architecture: "arm64",
            machine: 183,
            code: AARCH64,
        },
    ),
];

/// The program for a processor as Rust names it (`std::env::consts::ARCH`).
pub(super) fn program_for(arch: &str) -> Option<Program> {
    PROGRAMS
        .into_iter()
        .find(|(name, _)| *name == arch)
        .map(|(_, program)| program)
}

impl Program {
    /// The ELF file: header, one program header, code. One segment, readable and executable, holds all of it.
    pub(super) fn elf(&self) -> Vec<u8> {
        const BASE: u64 = 0x40_0000;
        const HEADERS: u64 = 64 + 56;
        let digits: String = self.code.chars().filter(|c| !c.is_whitespace()).collect();
        let code = hex::decode(digits).expect("the programs above are hexadecimal");
        let size = HEADERS + code.len() as u64;
        let mut out = Vec::with_capacity(size as usize);
        out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        out.extend(2u16.to_le_bytes()); // ET_EXEC
        out.extend(self.machine.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend((BASE + HEADERS).to_le_bytes()); // entry point
        out.extend(64u64.to_le_bytes()); // program headers follow
        out.extend(0u64.to_le_bytes()); // no section headers
        out.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 0, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        out.extend(1u32.to_le_bytes()); // PT_LOAD
        out.extend(5u32.to_le_bytes()); // readable, executable
        for word in [0, BASE, BASE, size, size, 0x1000] {
            out.extend(word.to_le_bytes());
        }
        out.extend(code);
        out
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn every_program_is_a_whole_elf_file() {
        for (arch, program) in PROGRAMS {
            let elf = program.elf();
            assert_eq!(&elf[..4], b"\x7fELF", "{arch}");
            assert!(
                elf.ends_with(&0x14002u64.to_le_bytes()),
                "{arch}: the signal set lies at the end"
            );
            assert_eq!(elf.len() % 2, 0, "{arch}");
        }
        let code: String = AARCH64.chars().filter(|c| !c.is_whitespace()).collect();
        assert_eq!(code.len() % 8, 0, "aarch64 instructions have four bytes");
        assert!(program_for("z80").is_none());
    }

    #[test]
    fn this_machine_runs_it_and_sigterm_ends_it() {
        let Some(program) = program_for(std::env::consts::ARCH) else {
            return;
        };
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("pause");
        std::fs::write(&path, program.elf()).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        // Through a shell: a file just written may still be open in another test's fork.
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "exec \"$0\"", &path.to_string_lossy()])
            .spawn()
            .expect("spawn");
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        // SIGTERM before exec would end the shell: wait until the program itself runs and sleeps.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let waits = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
            exe.is_ok_and(|exe| exe == path) && status.contains("State:\tS")
        };
        while !waits() {
            assert!(std::time::Instant::now() < deadline, "it does not run");
            assert!(
                child.try_wait().expect("wait").is_none(),
                "it ended at once"
            );
            std::thread::yield_now();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
        let status = child.wait().expect("wait");
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}
