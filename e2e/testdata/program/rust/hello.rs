// Reads numbers from stdin and tells about them, and about its world.
use std::collections::BTreeMap;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::{env, fs, io, process, thread, time};

fn main() -> io::Result<()> {
    let before = time::Instant::now();
    let mut count: BTreeMap<String, u64> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        for word in line?.split_whitespace() {
            *count.entry(word.to_lowercase()).or_insert(0) += 1;
        }
    }
    println!("{:?}", count);
    println!("{:?} {}", env::args().skip(1).collect::<Vec<_>>(), env::var("WHO").unwrap());
    fs::create_dir_all("/tmp/a/b")?;
    let mut f = fs::OpenOptions::new().read(true).write(true).create(true).open("/tmp/a/b/f")?;
    f.write_all(b"first second")?;
    f.seek(SeekFrom::Start(6))?;
    let mut rest = String::new();
    f.read_to_string(&mut rest)?;
    fs::rename("/tmp/a/b/f", "/tmp/a/g")?;
    let mut names: Vec<_> = fs::read_dir("/tmp/a")?.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    println!("{} {:?} {}", rest, names, fs::metadata("/tmp/a/g")?.len());
    fs::remove_dir_all("/tmp/a")?;
    println!("{:?}", fs::File::open("/tmp/a/g").unwrap_err().kind());
    thread::sleep(time::Duration::from_millis(20));
    assert!(before.elapsed() >= time::Duration::from_millis(20));
    process::exit(7)
}
