;; Reads standard input to its end and writes it to standard output; says so on standard error.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)

  ;; 0: where the piece is, 4: its size, 8: how much was read or written, 1024: the piece itself
  (data (i32.const 512) "echoing\n")

  (func $write (param $to i32) (param $at i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8))))

  (func (export "_start")
    (local $size i32)
    (call $write (i32.const 2) (i32.const 512) (i32.const 8))
    (loop $more
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $size (i32.load (i32.const 8)))
      (call $write (i32.const 1) (i32.const 1024) (local.get $size))
      (br_if $more (local.get $size)))))
