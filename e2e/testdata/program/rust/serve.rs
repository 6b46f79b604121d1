// A server that blocks: one connection after the other, on the listener at
// descriptor 3, as many as its argument says.
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::wasi::io::FromRawFd;

fn main() -> std::io::Result<()> {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let listener = unsafe { TcpListener::from_raw_fd(3) };
    for (i, conn) in listener.incoming().take(n).enumerate() {
        let mut conn = conn?;
        let mut line = String::new();
        BufReader::new(&conn).read_line(&mut line)?;
        write!(conn, "{} {}", i, line.to_uppercase())?;
    }
    Ok(())
}
