(defun fib (n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(format t "~a~%" (fib 22))
(format t "~a~%" (expt 3 200))
#+sb-thread
(let ((lock (sb-thread:make-mutex)) (sum 0))
  (mapc #'sb-thread:join-thread
        (loop for n below 4 collect (let ((n n)) (sb-thread:make-thread (lambda () (dotimes (k 100) (sb-thread:with-mutex (lock) (incf sum n))))))))
  (format t "~a~%" sum))
(gc :full t)
(handler-case (error "an error") (error (e) (format t "~a~%" e)))
(format t "~a" (with-output-to-string (out) (sb-ext:run-program "/bin/echo" '("from lisp") :output out)))
(sb-ext:exit :code 4)
