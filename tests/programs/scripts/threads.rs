//! Threads, channels, locks, scoped threads, a child process.
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::{thread, time::Duration};

fn main() {
    let (send, receive) = mpsc::channel();
    let total = Arc::new(Mutex::new(0u64));
    let workers: Vec<_> = (0..4u64)
        .map(|n| {
            let (send, total) = (send.clone(), total.clone());
            thread::spawn(move || {
                for k in 0..1000 {
                    *total.lock().unwrap() += k;
                }
                send.send(n * n).unwrap();
                n
            })
        })
        .collect();
    drop(send);
    let mut got: Vec<u64> = receive.iter().collect();
    got.sort();
    println!("{got:?} {}", workers.into_iter().map(|w| w.join().unwrap()).sum::<u64>());
    println!("{}", total.lock().unwrap());
    let turn = (Mutex::new(0), Condvar::new());
    let (barrier, table) = (Barrier::new(3), RwLock::new(vec![1, 2, 3]));
    thread::scope(|scope| {
        for n in 0..3 {
            let (turn, barrier, table) = (&turn, &barrier, &table);
            scope.spawn(move || {
                barrier.wait();
                let mut now = turn.0.lock().unwrap();
                while *now != n {
                    now = turn.1.wait(now).unwrap();
                }
                println!("turn of {n}: {}", table.read().unwrap().len());
                table.write().unwrap().push(n);
                *now += 1;
                turn.1.notify_all();
            });
        }
    });
    let failed = thread::spawn(|| if true { std::panic::resume_unwind(Box::new(7i32)) }).join();
    println!("{:?}", failed.unwrap_err().downcast::<i32>());
    let (send, receive) = mpsc::sync_channel::<i32>(0);
    println!("{:?}", receive.recv_timeout(Duration::from_millis(20)));
    drop(send);
    let child = std::process::Command::new("sh").args(["-c", "echo child; exit 3"]).output().unwrap();
    println!("{:?} {:?}", String::from_utf8_lossy(&child.stdout), child.status.code());
    std::process::exit(5);
}
