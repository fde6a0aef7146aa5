// Goroutines, channels, a wait group, a mutex, timers, a context with a deadline, a child process.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func sieve(limit int) (primes []int) {
	numbers := make(chan int)
	go func() {
		for n := 2; n < limit; n++ { numbers <- n }
		close(numbers)
	}()
	for {
		prime, more := <-numbers
		if !more { return }
		primes = append(primes, prime)
		next := make(chan int)
		go func(in, out chan int) {
			for n := range in { if n%prime != 0 { out <- n } }
			close(out)
		}(numbers, next)
		numbers = next
	}
}

func main() {
	fmt.Println(sieve(200))
	var group sync.WaitGroup
	var lock sync.Mutex
	total := 0
	for n := 0; n < 100; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			runtime.Gosched()
			lock.Lock()
			total += n
			lock.Unlock()
		}(n)
	}
	group.Wait()
	fmt.Println(total)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	select {
	case <-ctx.Done():
		fmt.Println(ctx.Err())
	case <-time.After(5 * time.Second):
		fmt.Println("too late")
	}
	command := exec.Command("tr", "a-z", "A-Z")
	command.Stdin = strings.NewReader("from go\n")
	out, err := command.Output()
	fmt.Print(string(out), err, "\n")
	err = exec.Command("sh", "-c", "exit 3").Run()
	var status *exec.ExitError
	fmt.Println(errors.As(err, &status), status.ExitCode())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-signals)
	func() {
		defer func() { fmt.Println(recover()) }()
		var none *int
		fmt.Println(*none)
	}()
	done := make(chan bool)
	go func() { for n := 0; n < 200000000; n++ { }; done <- true }()
	<-done
	runtime.GC()
	file, _ := os.CreateTemp("", "go")
	defer os.Remove(file.Name())
	file.WriteString("written")
	text, _ := os.ReadFile(file.Name())
	fmt.Println(string(text))
	os.Exit(5)
}
