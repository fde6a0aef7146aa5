//! Where a symbol of the program's files is, and what lines code is of.

use std::collections::BTreeMap;

use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::program::mm::Backing;

use super::MOST_READ;
use super::module::Module;
use crate::timeline::mapped::{FileReader, Sources};

/// The address at which the running process of a program has a symbol, by its name as it stands in the file (mangled, in
/// C++ and Rust): in the executable, or in the first of its libraries that has it. `None` where no file that is mapped
/// with code has it now, and for a bare-metal guest.
pub fn symbol_address(machine: &Machine, name: &str) -> Option<u64> {
    let kernel = &machine.program()?.kernel;
    let sources = Sources { machine, home: None };
    let executable = &kernel.space.state.image.exe;
    let code = kernel.space.state.vmas.iter().filter(|(_, vma)| vma.protection.exec);
    let (first, others): (Vec<_>, Vec<_>) = code.partition(|(_, vma)| *vma.name == **executable);
    let mut budget = MOST_READ;
    first.into_iter().chain(others).find_map(|(start, vma)| {
        let Backing::File { content, offset, len, .. } = vma.backing else { return None };
        let file = sources.open_content(content, len, &vma.name);
        let module = Module::load_symbols(FileReader::new(sources, file), &mut budget)?;
        // What the file's addresses are moved by.
        let moved = start.wrapping_sub(module.address(offset)?);
        Some(module.symbol(name.as_bytes())?.wrapping_add(moved))
    })
}

/// Where a file is loaded in the running process of a program: the lowest address of its mappings. It is given by its path in
/// the guest, or by its name. `None` where it is not, and for a bare-metal guest.
pub fn loaded_at(machine: &Machine, file: &str) -> Option<u64> {
    let is_its = |path: &[u8]| {
        let name = path.starts_with(b"/").then(|| path.rsplit(|byte| *byte == b'/').next()).flatten();
        !path.is_empty() && (path == file.as_bytes() || name == Some(file.as_bytes()))
    };
    let vmas = &machine.program()?.kernel.space.state.vmas;
    vmas.iter().find(|(_, vma)| is_its(&vma.name)).map(|(start, _)| *start)
}

/// The source files and lines that addresses of the running process's code belong to, where the files that are mapped there
/// say so; of a file that was stripped, or whose lines are elsewhere, none.
pub fn source_lines(machine: &Machine, addresses: &[u64]) -> Vec<Option<(String, u32)>> {
    let Some(program) = machine.program() else { return vec![None; addresses.len()] };
    let sources = Sources { machine, home: None };
    let (mut budget, mut modules) = (MOST_READ, BTreeMap::new());
    let line = |address: &u64| {
        let (start, vma) = program.kernel.space.find(*address)?;
        let Backing::File { content, offset, len, .. } = vma.backing else { return None };
        let module = modules.entry(vma.name.clone()).or_insert_with(|| {
            let file = sources.open_content(content, len, &vma.name);
            Module::load(FileReader::new(sources, file), &mut budget)
        });
        let module = module.as_ref()?;
        module.line(module.address(offset + (address - start))?)
    };
    addresses.iter().map(line).collect()
}
