use reconciler::kernel::linux::{bpf, object::Template};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
fn main() {
    for kind in std::env::args().skip(1) {
        let elf = reconciler::objects::find(&kind).unwrap();
        let t = std::time::Instant::now();
        let template = Template::parse(&kind, elf).unwrap();
        println!("{kind}: parse {:?}", t.elapsed());
        let object = aya_obj::Object::parse(elf).unwrap();
        let mut maps = BTreeMap::new();
        for (name, map) in &object.maps {
            if name.starts_with('.') { continue; }
            let t = std::time::Instant::now();
            let fd = bpf::create_map(name, bpf::MapAttributes { map_type: map.map_type(), key_size: map.key_size(), value_size: map.value_size(), max_entries: map.max_entries(), flags: map.map_flags() }).unwrap();
            println!("  map {name} {:?}", t.elapsed());
            maps.insert(name.clone(), fd);
        }
        for entry in ["on_tc", "on_xdp"] {
            let fds = maps.iter().map(|(k, v)| (k.clone(), v.as_fd())).collect();
            let mut globals = BTreeMap::new();
            if kind == "bridge" { globals.insert("SETTINGS".to_owned(), 300_000_000_000u64.to_ne_bytes().to_vec()); }
            for _ in 0..3 {
            let t = std::time::Instant::now();
            match template.load(entry, &kind, &globals, &fds) {
                Ok(_) => println!("  {entry}: loaded {:?}", t.elapsed()),
                Err(reconciler::kernel::linux::object::Error::Kernel(e)) => { let log=e.log.clone().unwrap_or_default(); println!("  {entry}: {e}\n{}", &log[log.len().saturating_sub(3500)..]); break }
                Err(e) => {println!("  {entry}: {e}"); break}
            }
            }
        }
    }
}
