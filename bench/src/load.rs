//! The ends of a connection that is measured: this program again, started inside a namespace under a hidden name.
//!
//! The server listens on one port; the first byte of a connection says what it is for. Every client prints one number.

#![allow(clippy::print_stdout, reason = "the result of a hidden command is what it prints")]

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;

use crate::Failure;
use crate::dns;
use crate::figures;

/// Where the server listens.
pub(crate) const PORT: u16 = 5001;

/// First byte: count what comes, and say how much it was.
const STREAM: u8 = b'S';
/// First byte: answer each request of [`REQUEST`] bytes with as many.
const REQUESTS: u8 = b'R';
/// First byte: send it back and close.
const CONNECT: u8 = b'C';

/// Bytes of a request, and of its answer.
const REQUEST: usize = 256;

/// Bytes of one write of a stream.
const BLOCK: usize = 256 << 10;

/// Between two tries of `__await` and `__follow`.
const TRY: Duration = Duration::from_micros(200);

/// Longer than this, no try is waited for.
const TRY_WITHIN: Duration = Duration::from_millis(250);

/// Runs a hidden command.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<(), Failure> {
    let word = |index: usize| arguments.get(index).ok_or("an argument is missing");
    let address = |index: usize| -> Result<SocketAddr, Failure> {
        Ok(word(index)?.to_socket_addrs()?.next().ok_or("no address")?)
    };
    let seconds = |index: usize| -> Result<Duration, Failure> { Ok(Duration::from_secs_f64(word(index)?.parse()?)) };
    match name {
        "__serve" => serve(),
        "__stream" => print(stream(address(0)?, seconds(1)?)?),
        "__requests" => print(in_parallel(word(2)?.parse()?, || requests(address(0)?, seconds(1)?))?),
        "__connections" => print(in_parallel(word(2)?.parse()?, || connections(address(0)?, seconds(1)?))?),
        "__connections_at" => {
            // So many clients make so many connections a second together.
            let pause = Duration::from_secs_f64(word(2)?.parse::<f64>()? / word(3)?.parse::<f64>()?);
            print(in_parallel(word(2)?.parse()?, || connections_at(address(0)?, seconds(1)?, pause))?)
        }
        "__refusals" => print(in_parallel(word(2)?.parse()?, || refusals(address(0)?, seconds(1)?))?),
        "__trip" => print(trip(address(0)?, seconds(1)?)?),
        "__await" => wait_for(address(0)?),
        "__follow" => follow(address(0)?, seconds(1)?),
        "__dns" => dns::serve(address(0)?),
        "__dns_load" => print(dns::ask_for(address(0)?, seconds(1)?, word(2)?.parse()?, word(3)?.parse()?)?),
        other => Err(format!("there is no {other}").into()),
    }
}

fn print(number: f64) -> Result<(), Failure> {
    println!("{number}");
    Ok(())
}

fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::Builder::new().stack_size(512 << 10).spawn(move || {
            // A client that goes away ends its connection, nothing else.
            let _ = attend(stream);
        })?;
    }
    Ok(())
}

fn attend(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    match first {
        [STREAM] => {
            let mut block = vec![0; BLOCK];
            let mut total: u64 = 0;
            loop {
                let count = stream.read(&mut block)?;
                if count == 0 {
                    return stream.write_all(&total.to_be_bytes());
                }
                total += u64::try_from(count).unwrap_or_default();
            }
        }
        [REQUESTS] => {
            let mut request = [0; REQUEST];
            loop {
                stream.read_exact(&mut request)?;
                stream.write_all(&request)?;
            }
        }
        // Closed by this side, so that no port of the client waits in TIME_WAIT.
        _ => stream.write_all(&first),
    }
}

/// Gigabits per second of one connection, as the receiver counts.
fn stream(target: SocketAddr, time: Duration) -> Result<f64, Failure> {
    let mut stream = TcpStream::connect(target)?;
    let block = vec![7; BLOCK];
    let began = Instant::now();
    stream.write_all(&[STREAM])?;
    while began.elapsed() < time {
        stream.write_all(&block)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    let took = began.elapsed();
    // Far below 2^53, so nothing is lost.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let bits = u64::from_be_bytes(total) as f64 * 8.0;
    Ok(bits / took.as_secs_f64() / 1e9)
}

/// Requests per second over one connection.
fn requests(target: SocketAddr, time: Duration) -> Result<f64, Failure> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[REQUESTS])?;
    let mut request = [7; REQUEST];
    per_second(time, || {
        stream.write_all(&request)?;
        stream.read_exact(&mut request)
    })
}

/// Connections per second, one after the other: connect, a byte each way, close.
fn connections(target: SocketAddr, time: Duration) -> Result<f64, Failure> {
    per_second(time, || connection(target))
}

/// The same, one begun in each of these times; those that were missed are made up for.
fn connections_at(target: SocketAddr, time: Duration, pause: Duration) -> Result<f64, Failure> {
    let mut next = Instant::now();
    per_second(time, || {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        connection(target)
    })
}

fn connection(target: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(&[CONNECT])?;
    let mut answer = Vec::with_capacity(1);
    stream.read_to_end(&mut answer)?;
    if answer == [CONNECT] { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Connections that are refused at once, as many as there can be.
fn refusals(target: SocketAddr, time: Duration) -> Result<f64, Failure> {
    per_second(time, || match TcpStream::connect(target) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    })
}

/// Median microseconds of a request on one connection.
fn trip(target: SocketAddr, time: Duration) -> Result<f64, Failure> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[REQUESTS])?;
    let mut request = [7; REQUEST];
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let start = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut request)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(figures::median(&times))
}

fn per_second(time: Duration, mut once: impl FnMut() -> io::Result<()>) -> Result<f64, Failure> {
    let (began, mut count) = (Instant::now(), 0.0);
    while began.elapsed() < time {
        once()?;
        count += 1.0;
    }
    Ok(count / began.elapsed().as_secs_f64())
}

/// The sum over some threads.
fn in_parallel(count: usize, work: impl Fn() -> Result<f64, Failure> + Sync) -> Result<f64, Failure> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).sum()
    })
}

/// Prints when the address first answered, in microseconds since 1970.
fn wait_for(target: SocketAddr) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if answers(target) {
            println!("{}", now());
            return Ok(());
        }
        thread::sleep(TRY);
    }
    Err(format!("{target} did not answer").into())
}

/// An HTTP server behind the address sends a byte.
fn answers(target: SocketAddr) -> bool {
    let ask = || -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&target, TRY_WITHIN)?;
        stream.set_read_timeout(Some(TRY_WITHIN))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_exact(&mut [0])
    };
    ask().is_ok()
}

/// Prints a line, time and `up` or `down`, whenever new connections begin or cease to be accepted.
fn follow(target: SocketAddr, time: Duration) -> Result<(), Failure> {
    let until = Instant::now() + time;
    let mut before = None;
    while Instant::now() < until {
        let up = match TcpStream::connect_timeout(&target, TRY_WITHIN) {
            Ok(stream) => {
                // Broken off: with thousands a second in TIME_WAIT, the kernel would look for a free port for milliseconds.
                setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
                true
            }
            Err(_) => false,
        };
        if before != Some(up) {
            println!("{} {}", now(), if up { "up" } else { "down" });
            before = Some(up);
        }
        thread::sleep(TRY);
    }
    Ok(())
}

/// Microseconds since 1970: the one clock that all namespaces share.
pub(crate) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}
