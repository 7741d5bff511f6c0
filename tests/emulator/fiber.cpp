#include "emulator/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <stdexcept>
#include <utility>

namespace mixserve::emulator {
namespace {

constexpr size_t stack_bytes = 256 << 10;

}  // namespace

#if defined(__x86_64__)
// What a call keeps goes to the stack, and the other stack's comes back. ucontext would ask the kernel for
// the mask of signals each time, and a block's threads wait for each other all the time.
extern "C" void mixserve_switch_stack(void** own, void* other);
asm(R"(
.text
.globl mixserve_switch_stack
.type mixserve_switch_stack, @function
mixserve_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size mixserve_switch_stack, .-mixserve_switch_stack
.globl mixserve_enter_fiber
.type mixserve_enter_fiber, @function
mixserve_enter_fiber:
    movq %r12, %rdi
    call mixserve_run_fiber
    ud2
.size mixserve_enter_fiber, .-mixserve_enter_fiber
)");
extern "C" void mixserve_enter_fiber();
extern "C" void mixserve_run_fiber(Fiber* fiber) {
    fiber->run();
}

struct Fiber::Context {
    void* own = nullptr;
    void* caller = nullptr;
};

void Fiber::start(std::function<void()> body) {
    body_ = std::move(body);
    ended_ = false;
    // As mixserve_switch_stack leaves it: r15, r14, r13, r12, rbx, rbp, then where it returns to, with the
    // stack at a multiple of 16 bytes.
    auto* top = reinterpret_cast<uint64_t*>(stack_ + stack_bytes - 72);
    top[0] = top[1] = top[2] = top[4] = top[5] = 0;
    top[3] = reinterpret_cast<uint64_t>(this);
    top[6] = reinterpret_cast<uint64_t>(&mixserve_enter_fiber);
    context_->own = top;
}

void Fiber::resume() {
    mixserve_switch_stack(&context_->caller, context_->own);
}

void Fiber::yield() {
    mixserve_switch_stack(&context_->own, context_->caller);
}
#else
struct Fiber::Context {
    ucontext_t own{};
    ucontext_t caller{};
};

namespace {

// makecontext passes ints.
void enter(unsigned high, unsigned low) {
    reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | low)->run();
}

}  // namespace

void Fiber::start(std::function<void()> body) {
    body_ = std::move(body);
    ended_ = false;
    getcontext(&context_->own);
    context_->own.uc_stack.ss_sp = stack_;
    context_->own.uc_stack.ss_size = stack_bytes;
    context_->own.uc_link = nullptr;
    const auto address = reinterpret_cast<uintptr_t>(this);
    makecontext(&context_->own, reinterpret_cast<void (*)()>(&enter), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address));
}

void Fiber::resume() {
    swapcontext(&context_->caller, &context_->own);
}

void Fiber::yield() {
    swapcontext(&context_->own, &context_->caller);
}
#endif

Fiber::Fiber() : context_(std::make_unique<Context>()) {
    void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for a fiber's stack");
    stack_ = static_cast<std::byte*>(memory);
}

Fiber::~Fiber() {
    munmap(stack_, stack_bytes);
}

void Fiber::run() {
    body_();
    ended_ = true;
    yield();
}

}  // namespace mixserve::emulator
