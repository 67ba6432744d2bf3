/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_edges.c - hand-picked corners of user-mode instructions, native against the soft engine
 *
 * How it works
 * Each case is a few lines of assembly and the exception it must end with on any x86-64 CPU (13,
 * a general protection fault, is also the regular end: the HLT behind the code). The runs must
 * agree in all registers, flags, vector state and memory, and both must end as the case says, so
 * a case that went wrong the same way on both sides is noticed too. At the start register i holds
 * 0x20000000 + 0x100 * i, RSP 0x20011000, memory is random; the map is in diff.h. Cases whose
 * flags the manual leaves undefined save what is defined and end in a CMP.
 */
#include "diff.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define END 13 /* ran to the HLT, or #GP: told apart by RIP, which is compared */

/* clang-format off */
/* X(name, vector, where, assembly) */
#define EDGES(X)                                                                                   \
	/* division */                                                                             \
	X(div_zero, 0, CODE, "xor %ecx,%ecx; div %ecx")                                            \
	X(div_overflow, 0, CODE, "mov $2,%edx; xor %eax,%eax; mov $2,%ecx; div %ecx")              \
	X(div_just_fits, END, CODE, "mov $1,%edx; or $-1,%eax; mov $2,%ecx; div %ecx; cmp $1,%esp")   \
	X(idiv_min_by_minus_one, 0, CODE, "mov $0x80000000,%eax; cltd; mov $-1,%ecx; idiv %ecx")   \
	X(idiv8_min, 0, CODE, "mov $0xff80,%eax; mov $-1,%ecx; idiv %cl")                          \
	X(idiv8_ok, END, CODE, "mov $0xff81,%eax; mov $-1,%ecx; idiv %cl; cmp $1,%esp")               \
	X(idiv64_min, 0, CODE, "mov $1,%eax; shl $63,%rax; cqto; or $-1,%rcx; idiv %rcx")          \
	X(idiv64_wide, END, CODE,                                                                  \
	  "mov $-3,%rdx; mov $12345,%eax; mov $0x123456789,%rcx; idiv %rcx; cmp $1,%esp")          \
	X(div64_wide, END, CODE, "mov $7,%edx; or $-1,%rax; mov $8,%ecx; div %rcx; cmp $1,%esp")   \
	X(div8_remainder, END, CODE, "mov $0x1234,%eax; mov $0x77,%ebx; div %bl; cmp $1,%esp")     \
	X(aad_is_invalid, 6, CODE, ".byte 0xd5, 0x0a")                                             \
	/* shifts and rotates */                                                                   \
	X(shl_zero_keeps_flags, END, CODE, "stc; mov $0,%cl; shl %cl,%eax; shr %cl,%rax; sar %cl,%al") \
	X(shl_32_is_zero, END, CODE, "stc; mov $32,%cl; shl %cl,%eax; mov $64,%cl; shl %cl,%rax")  \
	X(shl_zero_clears_high, END, CODE, "or $-1,%rax; mov $32,%cl; shl %cl,%eax")               \
	X(shl8_by_9, END, CODE, "mov $9,%cl; or $-1,%al; shl %cl,%al; cmp $1,%esp")                \
	X(sar8_by_31, END, CODE, "mov $0x80,%al; mov $31,%cl; sar %cl,%al; setc %bl; cmp $1,%esp") \
	X(rcl8_by_9, END, CODE, "stc; mov $0x5a,%al; mov $9,%cl; rcl %cl,%al; setc %bl; cmp $1,%esp") \
	X(rcl8_by_10, END, CODE, "stc; mov $0x5a,%al; mov $10,%cl; rcl %cl,%al; setc %bl; cmp $1,%esp") \
	X(rcr16_by_17, END, CODE, "stc; mov $0x55aa,%ax; mov $17,%cl; rcr %cl,%ax; setc %bl; cmp $1,%esp") \
	X(rcr32_by_31, END, CODE, "clc; mov %ebx,%eax; mov $31,%cl; rcr %cl,%eax; setc %bl; cmp $1,%esp") \
	X(rcl64_by_63, END, CODE, "stc; mov $63,%cl; rcl %cl,%rax; setc %bl; cmp $1,%esp")         \
	X(rol8_by_8, END, CODE, "mov $0x81,%al; mov $8,%cl; rol %cl,%al; setc %bl; cmp $1,%esp")   \
	X(ror16_by_16, END, CODE, "mov $0x8001,%ax; mov $16,%cl; ror %cl,%ax; setc %bl; cmp $1,%esp") \
	X(rol_by_1_of, END, CODE, "mov $0xc0000000,%eax; rol $1,%eax; ror $1,%ebx; rcl $1,%esi")   \
	X(shl_by_1_of, END, CODE, "mov $0x40000000,%eax; shl $1,%eax; seto %bl; lahf; cmp $1,%esp") \
	X(shld_32, END, CODE, "mov $0x12345678,%eax; mov $13,%cl; shld %cl,%ebx,%eax; cmp $1,%esp") \
	X(shrd_zero_count, END, CODE, "stc; mov $64,%cl; shrd %cl,%rbx,%rax; shrd $0,%ebx,%eax")   \
	X(shrd_mem_64, END, CODE, "shrd $63,%rbx,0x20000100; cmp $1,%esp")                         \
	/* high bytes, extension, same register */                                                 \
	X(movsx_high_byte, END, CODE, "mov $0x80ff,%eax; movsbl %ah,%ecx; movzbl %ah,%edx; mov %ah,%ch") \
	X(rex_spl, END, CODE, "mov %spl,%al; mov %al,%dil; add %sil,%bpl")                         \
	X(high_byte_add, END, CODE, "mov $0xff01,%eax; add %al,%ah; adc %ah,%bh; xchg %ah,%al")    \
	X(mov32_clears_high, END, CODE, "or $-1,%rax; mov %eax,%eax; or $-1,%rbx; mov %bx,%bx")    \
	X(cmov32_clears_high, END, CODE, "or $-1,%rax; cmp %eax,%eax; cmovne %ebx,%eax")           \
	X(lret_cs_first, 14, CODE, "movabs $0x120010eb8,%rsp; lret") \
	X(lretq_cs_first, 14, CODE, "movabs $0x120010ff8,%rsp; lretq") \
	X(iret_order, 14, CODE, "movabs $0x120010eb8,%rsp; iretl") \
	X(iretq_order, 14, CODE, "movabs $0x120010eb8,%rsp; iretq") \
	X(far_apart, 14, CODE, "mov $0x60000100,%ebx; mov -0x40000000(%rbx),%rax; mov 0x50000000(%rbx),%rcx") \
	X(cmov_false_still_faults, 14, CODE, "cmp %eax,%eax; cmovne 0x20005000,%eax")              \
	X(xchg_same, END, CODE, "or $-1,%rax; xchg %eax,%eax; .byte 0x87,0xc0")                    \
	X(xchg_r8_rax, END, CODE, ".byte 0x41,0x90; .byte 0x49,0x90; .byte 0x90; .byte 0x40,0x90") \
	X(xadd_same, END, CODE, "mov $0x80000001,%eax; xadd %eax,%eax; xadd %ah,%al")              \
	X(xadd_mem, END, CODE, "lock xadd %rax,0x20000100; xadd %bx,0x20000200")                   \
	X(cmpxchg_fail_32, END, CODE, "or $-1,%rbx; or $-1,%rax; mov $1,%ecx; cmpxchg %ecx,%ebx; cmpxchg %ecx,%ebx; cmpxchg %ecx,%ebx") \
	X(cmpxchg_equal_32_high, END, CODE, "or $-1,%rax; or $-1,%rbx; cmpxchg %ecx,%ebx")         \
	X(cmpxchg_mem_writes_on_failure, 14, CODE, "xor %eax,%eax; cmpxchg %ecx,0x20004000")       \
	X(cmpxchg8b_fail, END, CODE, "xor %eax,%eax; xor %edx,%edx; lock cmpxchg8b 0x20000100")    \
	X(cmpxchg8b_fail_readonly, 14, CODE, "xor %eax,%eax; xor %edx,%edx; cmpxchg8b 0x20004000") \
	X(cmpxchg8b_ok, END, CODE, "mov 0x20000100,%eax; mov 0x20000104,%edx; cmpxchg8b 0x20000100") \
	X(cmpxchg16b_ok, END, CODE, "mov 0x20000100,%rax; mov 0x20000108,%rdx; lock cmpxchg16b 0x20000100") \
	X(cmpxchg16b_other, END, CODE, "stc; mov 0x20000100,%rax; mov %rcx,%rdx; lock cmpxchg16b 0x20000100; setc %bl; setz %cl") \
	X(cmpxchg16b_keeps_flags, END, CODE, "mov 0x20000100,%rax; mov 0x20000108,%rdx; mov $0x7fffffff,%esi; add $1,%esi; cmpxchg16b 0x20000100; setc %bl; seto %cl; sets %sil") \
	X(cmpxchg16b_beside, END, CODE, "mov $0x20000100,%r12d; mov 8(%r12),%rdx; mov (%r12),%rax; lock cmpxchg16b (%r12); mov %rbx,16(%r12); lock cmpxchg16b 32(%r12)") \
	X(cmpxchg16b_spilled_base, END, CODE, "mov $0x20000100,%r9d; mov (%r9),%rax; mov 8(%r9),%rdx; lock cmpxchg16b (%r9)") \
	X(cmpxchg16b_read_only, 14, CODE, "stc; cmpxchg16b 0x20004000; nop")                          \
	X(cmpxchg16b_misaligned, 13, CODE, "cmpxchg16b 0x20000108")                                \
	X(bswap_32, END, CODE, "or $-1,%rax; mov $0x12345678,%eax; bswap %eax; bswap %rbx")        \
	/* multiplication flags */                                                                 \
	X(imul_overflow, END, CODE, "mov $0x10000,%eax; imul %eax,%eax; setc %bl; seto %cl; cmp $1,%esp") \
	X(imul_fits, END, CODE, "mov $-5,%eax; imul $7,%eax,%edx; setc %bl; seto %cl; cmp $1,%esp") \
	X(imul64_min, END, CODE, "mov $1,%eax; ror $1,%rax; imul %rax; setc %bl; seto %cl; cmp $1,%esp") \
	X(mul8, END, CODE, "mov $0x10,%al; mov $0x10,%bl; mul %bl; setc %cl; cmp $1,%esp")         \
	X(mul64, END, CODE, "or $-1,%rax; or $-1,%rbx; mul %rbx; setc %cl; cmp $1,%esp")           \
	/* bits */                                                                                 \
	X(bt_reg_offset_beyond, END, CODE, "mov $1000,%eax; bts %eax,0x20000100; setc %bl; cmp $1,%esp") \
	X(bt_reg_offset_negative, END, CODE, "mov $-77,%rax; btc %rax,0x20000100; setc %bl; cmp $1,%esp") \
	X(bt16_offset, END, CODE, "mov $-1,%ax; btr %ax,0x20000100; setc %bl; cmp $1,%esp")        \
	X(bt_reg_masks, END, CODE, "mov $35,%ecx; bts %ecx,%eax; setc %bl; btr %rcx,%rdx; cmp $1,%esp") \
	X(bt_imm_masks, END, CODE, "btc $0x45,%rax; btsl $0x25,0x20000100; setc %bl; cmp $1,%esp") \
	X(bt_offset_faults, 14, CODE, "mov $0x28000,%eax; bts %eax,0x20000000")                    \
	X(bsf_bsr, END, CODE, "mov $0x8100,%eax; bsf %eax,%ecx; bsr %rax,%rdx; setz %bl; cmp $1,%esp") \
	X(popcnt_zero, END, CODE, "xor %eax,%eax; popcnt %eax,%ebx; popcnt 0x20000100,%rcx")       \
	X(crc32_forms, END, CODE, "crc32b %ah,%ebx; crc32w %cx,%edx; crc32l %esi,%edi; crc32q %r8,%r9") \
	/* stack */                                                                                \
	X(push_rsp, END, CODE, "push %rsp; pop %rax")                                              \
	X(pop_rsp, END, CODE, "push %rbx; pop %rsp")                                               \
	X(pop_mem_rsp, END, CODE, "push %rbx; pop (%rsp); push %rcx; pop -8(%rsp)")                \
	X(push_mem_rsp, END, CODE, "push (%rsp); push 8(%rsp)")                                    \
	X(push16, END, CODE, "pushw $0x1234; pushw %ax; popw %bx; pushw 0x20000100")               \
	X(push_imm8_sign, END, CODE, "push $-1; push $0x7fffffff; pushw $-2")                      \
	X(push_faults_keeps_rsp, 14, CODE, "mov $0x20010004,%esp; push %rax")                      \
	X(pop_mem_fault_keeps_rsp, 14, CODE, "push %rax; pop 0x20005000")                          \
	X(push_noncanonical, 12, CODE, "mov $1,%eax; ror $1,%rax; mov %rax,%rsp; push %rbx")       \
	X(rbp_noncanonical, 12, CODE, "mov $1,%eax; ror $1,%rax; mov %rax,%rbp; mov (%rbp),%eax")  \
	X(rax_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; mov (%rax),%eax")                 \
	X(enter_leave, END, CODE, "enter $32,$0; push %rax; leave")                                \
	X(enter_nested, END, CODE, "mov %rsp,%rbp; sub $64,%rsp; enter $16,$3; enter $0,$1; leave") \
	X(enter_faults, 14, CODE, "mov $0x20010010,%esp; enter $0x20,$0; push %rax")               \
	X(leave16, END, CODE, "mov %rsp,%rbp; .byte 0x66,0xc9")                                    \
	X(call_ret, END, CODE, "call 1f; mov $1,%eax; jmp 2f; 1: mov $2,%ebx; ret; 2: nop")        \
	X(ret_imm, END, CODE, "call 1f; jmp 2f; 1: ret $0x18; 2: nop")                             \
	X(ret_faults_at_target, 14, CODE, "push $0x20005000; ret")                                 \
	X(ret_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; push %rax; ret")                  \
	X(call_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; call *%rax")                     \
	X(jmp_to_nx, 14, CODE, "jmp *%rax")                                                        \
	X(pushf_popf, END, CODE, "pushf; orl $0x244cd5,(%rsp); popf; pushf; popw %ax; pushw $0; popfw") \
	X(popf_user_bits, END, CODE, "push $-1; andl $~0x40100,(%rsp); popf; pushf; pop %rax")     \
	X(single_step, 1, CODE, "pushf; orl $0x100,(%rsp); popf; inc %eax; inc %ebx")              \
	X(alignment_check, 17, CODE, "pushf; orl $0x40000,(%rsp); popf; mov 0x20000101,%eax")      \
	X(alignment_byte_ok, END, CODE, "pushf; orl $0x40000,(%rsp); popf; mov 0x20000101,%al; mov 0x20000108,%rax") \
	/* strings */                                                                              \
	X(rep_movs_faults_midway, 14, CODE, "mov $0x20003ff0,%edi; mov $0x20000100,%esi; mov $64,%ecx; rep movsb") \
	X(rep_movsq_source_faults, 14, CODE, "mov $0x20004fe8,%esi; mov $0x20000100,%edi; mov $9,%ecx; rep movsq") \
	X(rep_stos_down, 14, CODE, "std; mov $0x20008010,%edi; mov $64,%ecx; rep stosl")           \
	X(rep_stos_across, END, CODE, "mov $0x20000ffc,%edi; mov $700,%ecx; rep stosq")            \
	X(rep_movs_overlap, END, CODE, "mov $0x20000100,%esi; mov $0x20000101,%edi; mov $99,%ecx; rep movsb") \
	X(rep_movs_overlap_wide, END, CODE, "mov $0x20000100,%esi; mov $0x20000103,%edi; mov $20,%ecx; rep movsq") \
	X(rep_movs_overlap_down, END, CODE, "std; mov $0x20000203,%esi; mov $0x20000200,%edi; mov $99,%ecx; rep movsb") \
	X(rep_zero, END, CODE, "xor %ecx,%ecx; stc; mov $0x20005000,%edi; rep stosb; repe cmpsb; rep lodsq") \
	X(rep_count_64, 14, CODE, "mov $1,%ecx; shl $40,%rcx; mov $0x20003000,%edi; rep stosb")    \
	X(rep_addr32, END, CODE, "or $-1,%rcx; mov $3,%cx; mov $3,%ecx; mov $5,%r8; shl $32,%r8; add %r8,%rcx; add %r8,%rdi; addr32 rep stosb") \
	X(repe_cmps_equal, END, CODE, "mov $0x20000100,%esi; mov %esi,%edi; mov $50,%ecx; repe cmpsb") \
	X(repe_cmps_fault_keeps_flags, 14, CODE, "mov $0x20003ff0,%esi; mov $0x20008fff,%edi; mov $50,%ecx; stc; repne cmpsl") \
	X(repne_scas, END, CODE, "mov 0x20000140,%al; mov $0x20000100,%edi; mov $100,%ecx; repne scasb") \
	X(lods_sizes, END, CODE, "lodsb; lodsw; lodsl; lodsq; std; lodsb; addr32 lodsl")           \
	X(ins_privileged, 13, CODE, "xor %ecx,%ecx; rep insb")                                     \
	X(xlat_wraps, END, CODE, "mov $0x20000100,%ebx; mov $0xff,%al; xlat; mov %al,%cl; xlat")   \
	/* addressing */                                                                           \
	X(addr32_wraps, END, CODE, "or $-1,%rax; mov $0x20000200,%ecx; addr32 mov 1(%eax,%ecx),%ebx") \
	X(addr32_truncates, END, CODE, "mov $1,%edx; shl $32,%rdx; or $0x20000200,%rdx; addr32 mov (%edx),%rbx; addr32 lea (%edx),%rdi") \
	X(lea_forms, END, CODE, "lea 5(%rax,%rcx,8),%rdx; lea -1(,%rbx,4),%ebx; lea (%rsi),%di; addr32 lea -1(%eax),%rsi") \
	X(rip_relative, END, CODE, "lea 0(%rip),%rax; mov -7(%rip),%rbx; addr32 lea -64(%eip),%rcx") \
	X(moffs, END, CODE, "movabs 0x20000100,%al; movabs 0x20000200,%rax; movabs %eax,0x20000300; addr32 movabs 0x20000100,%al") \
	X(split_store_faults_whole, 14, CODE, "mov $0x20003ffd,%edi; mov %rax,(%rdi)")             \
	X(split_store_at_end, 14, CODE, "mov $0x20008ffd,%edi; mov %rax,(%rdi)")                   \
	X(split_load, END, CODE, "mov 0x20000ffd,%rax; mov %rax,0x20001ffb; add %rax,0x20002ffe; movups 0x20001ff9,%xmm0") \
	X(split_rmw_readonly, 14, CODE, "addq $1,0x20003ffc")                                      \
	X(rmw_readonly, 14, CODE, "orb $0,0x20004000")                                             \
	X(test_readonly_ok, END, CODE, "testl $-1,0x20004000")                                     \
	X(bt_readonly_ok, END, CODE, "btl $3,0x20004000; setc %al; cmp $1,%esp")                   \
	X(shift_zero_still_writes, 14, CODE, "mov $0,%cl; shll %cl,0x20004000")                    \
	X(base_32_bits, END, CODE, "or $-1,%r9; wrgsbase %r9d; rdgsbase %r10; mov %r10,%rax; rdgsbase %r11d; or $-1,%rbx; rdgsbase %ebx; wrfsbase %ecx; rdfsbase %r15") \
	X(base_not_canonical, 13, CODE, "mov $1,%r9d; ror $1,%r9; stc; wrfsbase %r9; nop")        \
	X(from_segments, END, CODE, "stc; or $-1,%rax; or $-1,%r9; or $-1,%r10; mov %ss,%ax; mov %cs,%r9w; mov %ss,%r10; mov %cs,%ebx; movw %ss,0x20000101; setc %cl") \
	X(fs_gs, END, CODE, "mov $0x20000000,%eax; wrfsbase %rax; mov %fs:0x100,%ebx; wrgsbase %rbx; rdgsbase %ecx; rdfsbase %rdx") \
	X(wrfsbase_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; wrfsbase %rax")              \
	X(selectors, END, CODE, "mov %cs,%eax; mov %ss,%rbx; mov %ds,%cx; mov %fs,0x20000100; push %gs") \
	/* prefixes and encodings */                                                               \
	X(lock_reg, 6, CODE, ".byte 0xf0,0x01,0xc0")                                               \
	X(lock_mov, 6, CODE, ".byte 0xf0,0x89,0x03")                                               \
	X(lock_load_form, 6, CODE, ".byte 0xf0,0x03,0x03")                                         \
	X(lock_cmp, 6, CODE, ".byte 0xf0,0x39,0x03")                                               \
	X(lock_ok, END, CODE, "lock incl (%rbx); lock negq (%rbx); lock notb (%rbx); lock btsl $1,(%rbx); cmp $1,%esp") \
	X(fifteen_bytes, END, CODE, ".fill 14,1,0x66; nop")                                        \
	X(sixteen_bytes, 13, CODE, ".fill 15,1,0x66; nop")                                         \
	X(rex_then_prefix, END, CODE, ".byte 0x48,0x66,0x01,0xc8; .byte 0x66,0x48,0x01,0xc8")      \
	X(two_mandatory, END, CODE, ".byte 0x66,0xf3,0x0f,0x58,0xc1; .byte 0xf3,0xf2,0x0f,0x58,0xc1") \
	X(rep_ret, END, CODE, "call 1f; jmp 2f; 1: rep; ret; 2: nop")                              \
	X(undefined_opcode, 6, CODE, "ud2")                                                        \
	X(ud1_reads_nothing, 6, CODE, ".byte 0x0f,0xb9,0x04,0x25,0,0x50,0,0x20")                   \
	X(int3, 3, CODE, "nop; int3")                                                              \
	X(int_n, 13, CODE, "int $0x21")                                                            \
	X(cli_user, 13, CODE, "cli")                                                               \
	X(in_user, 13, CODE, "in $0x60,%al")                                                       \
	X(mov_cr_user, 13, CODE, "mov %cr0,%rax")                                                  \
	X(endbr_is_nop, END, CODE, ".byte 0xf3,0x0f,0x1e,0xfa; .byte 0x0f,0x1f,0x84,0,0,0,0,0")    \
	X(sahf_lahf, END, CODE, "mov $0xffff,%eax; sahf; lahf; mov $0,%ah; sahf")                  \
	X(inc_keeps_cf, END, CODE, "stc; mov $0x7fffffff,%eax; inc %eax; clc; dec %ebx")           \
	X(neg_zero, END, CODE, "xor %eax,%eax; neg %eax; mov $0x80,%bl; neg %bl; sbb %ecx,%ecx")   \
	X(adc_carry_chain, END, CODE, "stc; mov $-1,%eax; adc $0,%eax; adc $-1,%ebx; sbb $-1,%ecx; adc %al,%ah") \
	X(loop_forms, END, CODE, "mov $3,%ecx; 1: inc %eax; loop 1b; mov $2,%ecx; cmp %eax,%eax; 2: dec %ebx; loope 2b; jecxz 3f; nop; 3: jrcxz 4f; nop; 4: nop") \
	X(loop_addr32, END, CODE, "mov $1,%eax; shl $32,%rax; lea 1(%rax),%rcx; 1: addr32 loop 1b") \
	X(addr32_sib_no_base_rex_b, END, CODE, ".byte 0x67,0x41,0x8b,0x04,0x25,0x40,0x01,0x00,0x20") \
	X(addr32_bt_wraps, 14, CODE, "mov $0x20000100,%eax; mov $1,%ecx; shl $41,%rcx; addr32 bts %rcx,(%eax); mov $0x28000,%ecx; bts %ecx,(%rax)") \
	X(repe_cmps_second_fault_keeps_flags, 14, CODE, "mov $0x20004ff0,%esi; mov %esi,%edi; mov $64,%ecx; cmp $-1,%ecx; repe cmpsb") \
	X(cmps_both_fault, 14, CODE, "mov $0x20005010,%esi; mov $0x20006020,%edi; cmpsb") \
	X(addr32_rep_zero_truncates, END, CODE, "mov $1,%ecx; shl $40,%rcx; addr32 rep stosb") \
	X(cmpxchg32_fail_keeps_high, END, CODE, "or $-1,%rbx; xor %eax,%eax; cmpxchg %ecx,%ebx") \
	X(pop_mem_noncanonical, 13, CODE, "mov $1,%edi; ror $1,%rdi; pop (%rdi)") \
	X(x87_store_unmasked_invalid, 13, CODE, "push $0x37e; fldcw (%rsp); movl $0x7f7fffff,0x20000100; flds 0x20000100; fistpll 0x20005000") \
	X(x87_pending_before_page_fault, 16, CODE, "push $0x37b; fldcw (%rsp); fldz; fld1; fdivp; flds 0x20005000") \
	X(mmx_pending_before_page_fault, 16, CODE, "push $0x37b; fldcw (%rsp); fldz; fld1; fdivp; movq 0x20005000,%mm1") \
	X(ac_below_noncanonical, 13, CODE, "pushf; orl $0x40000,(%rsp); popf; mov $1,%edi; ror $1,%rdi; mov 1(%rdi),%eax") \
	X(ac_not_for_movups, END, CODE, "pushf; orl $0x40000,(%rsp); popf; movups 0x20000101,%xmm0; movdqu %xmm0,0x20000203; pcmpestrm $0,0x20000105,%xmm0") \
	X(ac_for_m80, 17, CODE, "fldpi; pushf; orl $0x40000,(%rsp); popf; fstpt 0x20000103") \
	X(ac_for_fldenv, 17, CODE, "pushf; orl $0x40000,(%rsp); popf; fldenv 0x20000102") \
	X(ac_for_fxrstor, 17, CODE, "pushf; orl $0x40000,(%rsp); popf; fxrstor 0x20000101")        \
	X(fxrstor_noncanonical_stack, 12, CODE, "mov $1,%ebp; ror $1,%rbp; fxrstor64 4(%rbp)")     \
	X(fxsave_last_byte_first, 14, CODE, "fxsave64 0x20003e70")                                 \
	X(fxrstor_last_byte_first, 14, CODE, "movl $-1,0x20008e88; fxrstor 0x20008e70")            \
	X(fldenv_last_byte_second, 14, CODE, "fldenv 0x20008ff0")                                  \
	X(fldenv_first_word_split, 14, CODE, "fldenv 0x20008fff")                                  \
	X(fstpt_split_first_part_stays, 14, CODE, "fldpi; fstpt 0x20008ff7")                       \
	X(fstpt_split_ok, END, CODE, "fldpi; fstpt 0x20000ff9; fldl2e; fbstp 0x20001ffd")          \
	X(cvtpd2pi_misaligned, 13, CODE, "cvtpd2pi 0x20000108,%mm0")                               \
	X(tf_rep_one_element, 1, CODE, "mov $5,%ecx; pushf; orl $0x100,(%rsp); popf; rep movsb")   \
	X(tf_rep_scan, 1, CODE, "mov $5,%ecx; pushf; orl $0x100,(%rsp); popf; repne scasb")        \
	X(tf_after_int3, 3, CODE, "pushf; orl $0x100,(%rsp); popf; int3")                          \
	X(addr32_rep_movs_zero_cuts, END, CODE, "mov $1,%ecx; shl $40,%rcx; add %rcx,%rsi; add %rcx,%rdi; addr32 rep movsb") \
	X(addr32_rep_cmps_fault_cuts_rcx, 14, CODE, "mov $1,%ecx; shl $40,%rcx; mov $0x20005000,%esi; or %rcx,%rsi; or %rcx,%rdi; inc %rcx; addr32 repe cmpsb") \
	X(addr32_rep_stos_fault_cuts_rdi, 14, CODE, "mov $1,%ecx; shl $40,%rcx; mov $0x20005000,%edi; or %rcx,%rsi; or %rcx,%rdi; inc %rcx; addr32 rep stosb") \
	X(call_mem_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; mov %rax,0x20000100; call *0x20000100") \
	X(jmp_mem_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; mov %rax,0x20000100; jmp *0x20000100") \
	X(load_across_canonical_end, 13, CODE, "mov $-1,%rax; shr $17,%rax; mov -2(%rax),%rbx")    \
	X(movaps_noncanonical_stack, 13, CODE, "mov $1,%ebp; ror $1,%rbp; movaps 4(%rbp),%xmm0")   \
	X(movaps_store_noncanonical_stack, 13, CODE, "mov $1,%ebp; ror $1,%rbp; movaps %xmm0,4(%rbp)") \
	X(cx16_noncanonical_stack, 13, CODE, "mov $1,%ebp; ror $1,%rbp; cmpxchg16b 4(%rbp)")       \
	X(pop_noncanonical, 12, CODE, "mov $1,%esp; ror $1,%rsp; pop %rax")                        \
	X(push_mem_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; push (%rax)")                \
	X(ret_noncanonical_stack, 12, CODE, "mov $1,%esp; ror $1,%rsp; ret")                       \
	X(call_noncanonical_stack, 12, CODE, "mov $1,%esp; ror $1,%rsp; call 1f; 1: nop")          \
	X(call_mem_noncanonical_operand, 13, CODE, "mov $1,%eax; ror $1,%rax; call *(%rax)")       \
	X(leave_noncanonical, 12, CODE, "mov $1,%ebp; ror $1,%rbp; leave")                         \
	X(enter_noncanonical, 12, CODE, "mov $1,%esp; ror $1,%rsp; enter $8,$0")                   \
	X(ss_override_noncanonical, 13, CODE, "mov $1,%eax; ror $1,%rax; mov %ss:(%rax),%ecx")     \
	X(ds_override_on_rbp, 12, CODE, "mov $1,%ebp; ror $1,%rbp; mov %ds:(%rbp),%ecx")           \
	X(movs_noncanonical, 13, CODE, "mov $1,%esi; ror $1,%rsi; movsb")                          \
	X(fs_noncanonical, 13, CODE, "mov $1,%ebp; ror $1,%rbp; mov %fs:(%rbp),%ecx")              \
	X(cwd_family, END, CODE, "mov $0x80,%al; cbtw; cwtl; cltq; cwtd; cltd; cqto")              \
	/* SSE */                                                                                  \
	X(movaps_misaligned, 13, CODE, "movaps 0x20000104,%xmm0")                                  \
	X(movaps_misaligned_unmapped, 13, CODE, "movaps 0x20005004,%xmm0")                         \
	X(addps_misaligned, 13, CODE, "addps 0x20000108,%xmm0")                                    \
	X(movups_split_fault, 14, CODE, "movups %xmm0,0x20003ff8")                                 \
	X(lddqu_any, END, CODE, "lddqu 0x20000fff,%xmm3; movdqu %xmm3,0x20001ff1")                 \
	X(movsd_load_clears, END, CODE, "movups 0x20000100,%xmm0; movaps %xmm0,%xmm1; movsd 0x20000200,%xmm0; movsd %xmm1,%xmm0; movss 0x20000210,%xmm1") \
	X(divss_zero_masked, END, CODE, "mov $1,%eax; cvtsi2ss %eax,%xmm0; xorps %xmm1,%xmm1; divss %xmm1,%xmm0") \
	X(divss_zero_unmasked, 19, CODE, "push $0x1d80; ldmxcsr (%rsp); mov $1,%eax; cvtsi2ss %eax,%xmm0; xorps %xmm1,%xmm1; divss %xmm1,%xmm0") \
	X(ldmxcsr_reserved, 13, CODE, "push $0x11f80; ldmxcsr (%rsp)")                             \
	X(cvttsd2si_indefinite, END, CODE, "pcmpeqd %xmm0,%xmm0; cvttsd2si %xmm0,%eax; cvttsd2si %xmm0,%rbx; cvtps2dq %xmm0,%xmm1") \
	X(comiss_nan, END, CODE, "pcmpeqd %xmm0,%xmm0; comiss %xmm0,%xmm1; ucomisd %xmm1,%xmm0")   \
	X(pcmpistri_flags, END, CODE, "movups 0x20000100,%xmm0; movups 0x20000110,%xmm1; pcmpistri $0x4c,%xmm0,%xmm1; pushf; pcmpestrm $0x19,%xmm1,%xmm0") \
	X(ptest_flags, END, CODE, "movups 0x20000100,%xmm0; ptest %xmm0,%xmm0; pushf; xorps %xmm1,%xmm1; ptest %xmm0,%xmm1") \
	X(pextr_pinsr, END, CODE, "movups 0x20000100,%xmm0; pextrb $15,%xmm0,%eax; pextrq $1,%xmm0,0x20000203; pinsrw $3,%ebx,%xmm0; pinsrd $2,0x20000ffe,%xmm0; extractps $1,%xmm0,0x20000301") \
	X(maskmovdqu, END, CODE, "movups 0x20000100,%xmm0; movups 0x20000200,%xmm1; mov $0x20000ff9,%edi; maskmovdqu %xmm1,%xmm0") \
	X(movmsk, END, CODE, "movups 0x20000100,%xmm0; movmskps %xmm0,%eax; pmovmskb %xmm0,%rbx; movmskpd %xmm0,%ecx") \
	X(movnt, END, CODE, "movntps %xmm0,0x20000100; movnti %rax,0x20000205; movntdqa 0x20000110,%xmm1") \
	X(blendv_implicit, END, CODE, "movups 0x20000100,%xmm0; movups 0x20000200,%xmm1; movups 0x20000300,%xmm2; pblendvb %xmm0,%xmm1,%xmm2; blendvps %xmm0,%xmm2,%xmm1") \
	/* MMX and x87 */                                                                          \
	X(mmx_sets_tags, END, CODE, "fld1; movq 0x20000100,%mm3; paddb %mm3,%mm4; movd %eax,%mm5") \
	X(emms, END, CODE, "movq 0x20000100,%mm3; emms; fld1; fldpi; faddp")                       \
	X(x87_stack_overflow, END, CODE, "fld1;fld1;fld1;fld1;fld1;fld1;fld1;fld1;fldpi; fnstsw %ax") \
	X(x87_stack_underflow, END, CODE, "fninit; fstp %st(1); fnstsw %ax; faddp; fstpl 0x20000100") \
	X(x87_unmasked_zero_divide, 16, CODE, "push $0x37b; fldcw (%rsp); fldz; fld1; fdivp; nop; inc %eax; fld1; inc %ebx") \
	X(x87_pending_nowait, 16, CODE, "push $0x37b; fldcw (%rsp); fldz; fld1; fdivp; fnstsw %ax; fnstcw 0x20000100; fwait") \
	X(x87_pending_fnclex, END, CODE, "push $0x37b; fldcw (%rsp); fldz; fld1; fdivp; fnclex; fwait; fld1") \
	X(mmx_pending, 16, CODE, "push $0x37b; fldcw (%rsp); fldz; fld1; fdivp; movq %mm0,%mm1")   \
	X(x87_store_fault_keeps_stack, 14, CODE, "fldpi; fstpt 0x20003ffb")                        \
	X(x87_load_formats, END, CODE, "fldt 0x20000100; filds 0x20000200; fildll 0x20000300; fbld 0x20000400; flds 0x20000500; fldl 0x20000600") \
	X(x87_store_formats, END, CODE, "fldpi; fstpt 0x20000100; fldpi; fists 0x20000202; fistpll 0x20000303; fldl2e; fbstp 0x20000401; fldln2; fsts 0x20000501; fisttpl 0x20000601") \
	X(x87_fxch_fincstp, END, CODE, "fld1; fldpi; fldz; fxch %st(2); fincstp; fdecstp; ffree %st(1); fxam; fnstsw %ax; fnstenv 0x20000100; movl $0,0x2000010c; movl $0,0x20000110; movl $0,0x20000114; movl $0,0x20000118") \
	X(x87_transcendental, END, CODE, "fldpi; fsin; fldpi; fcos; fldl2e; fptan; fld1; fldpi; fpatan; fld1; fldpi; fyl2x; fldln2; f2xm1; fprem") \
	X(fcomi_flags, END, CODE, "fldpi; fld1; fcomi %st(1); pushf; fucomip %st(1); setp %al; fcmovb %st(1),%st") \
	X(fxrstor_misaligned, 13, CODE, "fxrstor 0x20000108")                                      \
	X(fxsave_fxrstor, END, CODE, "fldpi; movups 0x20000100,%xmm7; fxsave64 0x20001000; fninit; xorps %xmm7,%xmm7; fxrstor64 0x20001000; movw $0,0x20001006; movq $0,0x20001008; movq $0,0x20001010") \
	/* self-modifying code, in the writable code page */                                       \
	X(smc_next_insn, END, SMC, "movb $0xc0,1f+1(%rip); 1: .byte 0xff,0xc8")                    \
	X(smc_loop, END, SMC, "mov $5,%ecx; 1: .byte 0x83,0xc0,0x01; addb $1,1b+2(%rip); loop 1b") \
	X(smc_rep_stos, END, SMC, "lea 1f(%rip),%rdi; mov $0x90,%al; mov $4,%ecx; rep stosb; 1: ud2; ud2") \
	X(smc_backward, END, SMC, "mov $2,%ebx; 1: mov $1,%eax; movb $7,1b+1(%rip); dec %ebx; jnz 1b") \
	X(smc_data_beside, END, SMC, "mov $20,%ecx; 1: mov %cl,4f(%rip); loop 1b; jmp 5f; 4: .byte 0; 5: nop")

/* 32-bit code. */
#define EDGES32(X)                                                                                 \
	X(pusha_popa, END, CODE, "pusha; popaw; pushaw; popa; mov %esp,%eax")                      \
	X(pusha_faults, 14, CODE, "mov $0x20010010,%esp; pusha")                                   \
	X(popa_faults, 14, CODE, "mov $0x20011ff0,%esp; popa")                                     \
	X(push_pop_32, END, CODE, "push %eax; push $-5; pushw %cx; pushl 0x20000100; pop %ebx; popw %dx; pop 0x20000200; pop %esp") \
	X(push_seg_32, END, CODE, "push $-1; pop %eax; push %ds; pop %eax; push %es; pop %ds; mov %ds,%ebx; pushw %ss; popw %es") \
	X(inc_dec_short, END, CODE, "inc %eax; dec %ecx; inc %bx; dec %sp; inc %esp; stc; dec %edi") \
	X(aaa, END, CODE, "mov $0x0b,%al; add $1,%al; aaa; setc %bl; mov $0x1f5,%eax; cmp %al,%al; aaa; setc %cl; cmp $1,%esp") \
	X(aas, END, CODE, "mov $0x0205,%eax; sub $9,%al; aas; setc %bl; cmp $1,%esp")              \
	X(daa_all, END, CODE, "mov $0x79,%al; add $0x35,%al; daa; mov %al,%bl; setc %bh; mov $0x99,%al; add $0x99,%al; daa; setc %ah; cmp $1,%esp") \
	X(das_all, END, CODE, "mov $0x35,%al; sub $0x47,%al; das; mov %al,%bl; setc %bh; mov $0x05,%al; stc; das; cmp $1,%esp") \
	X(daa_every_al, END, CODE, "mov $0x20000100,%edi; xor %ecx,%ecx; 1: mov %cl,%al; mov %ch,%ah; sahf; daa; mov %al,%dl; lahf; and $0xd5,%ah; mov %dl,%al; stosw; inc %ecx; cmp $0x400,%ecx; jne 1b") \
	X(das_every_al, END, CODE, "mov $0x20000100,%edi; xor %ecx,%ecx; 1: mov %cl,%al; mov %ch,%ah; shl $4,%ah; sahf; das; mov %al,%dl; lahf; and $0xd5,%ah; mov %dl,%al; stosw; inc %ecx; cmp $0x200,%ecx; jne 1b") \
	X(aaa_every_al, END, CODE, "mov $0x20000100,%edi; xor %ecx,%ecx; 1: mov %cl,%al; mov %ch,%ah; shl $4,%ah; sahf; aaa; stosw; setc %al; stosb; inc %ecx; cmp $0x200,%ecx; jne 1b") \
	X(aam_aad, END, CODE, "mov $0x7b,%al; aam; mov %eax,%ebx; aad; mov $0x90,%al; aam $16; aad $7; cmp $1,%esp") \
	X(aam_zero, 0, CODE, "aam $0")                                                             \
	X(salc, END, CODE, "stc; .byte 0xd6; mov %al,%bl; clc; .byte 0xd6")                        \
	X(bound_ok, END, CODE, "movl $5,0x20000100; movl $9,0x20000104; mov $9,%eax; bound %eax,0x20000100; movl $0x90005,0x20000100; mov $5,%cx; bound %cx,0x20000100") \
	X(bound_fails, 5, CODE, "movl $5,0x20000100; movl $9,0x20000104; mov $10,%eax; bound %eax,0x20000100") \
	X(les_lds, END, CODE, "movl $0x12345678,0x20000100; movw $0x2b,0x20000104; les 0x20000100,%edi; lds 0x20000100,%esi; mov %es,%eax; movw $0x2b,0x20000202; lds 0x20000200,%bx") \
	X(les_null_then_use, 13, CODE, "movw $0,0x20000104; les 0x20000100,%edi; mov %es:(%ebx),%eax") \
	X(null_ds, 13, CODE, "xor %eax,%eax; mov %eax,%ds; mov (%ebx),%ecx")                       \
	X(null_fs, 13, CODE, "mov %fs:(%ebx),%ecx")                                                \
	X(null_ss, 13, CODE, "xor %eax,%eax; mov %eax,%ss")                                        \
	X(bad_selector, 13, CODE, "mov $0x1000,%eax; mov %eax,%es")                                \
	X(cs_not_writable, 13, CODE, "movl $1,%cs:0x20000100")                                     \
	X(cs_readable, END, CODE, "mov %cs:0x20000100,%eax")                                       \
	X(addr16, 14, CODE, "mov $0x10100,%ebx; mov $8,%esi; lea (%bx,%si),%ecx; lea -1(%bx,%si),%dx; mov (%bx,%si),%eax") \
	X(addr16_bp_wraps, END, CODE, "mov $0xffff,%ebp; mov $3,%edi; lea (%bp,%di),%eax; lea 0x7fff(%bp),%ecx; lea 0x1234,%edx") \
	X(address_wraps_4g, END, CODE, "mov $0xfffffff0,%eax; mov 0x20000110(%eax),%ebx; mov $0x90000000,%ecx; mov (%ecx,%ecx,1),%edx; nop") \
	X(call_ret_32, END, CODE, "call 1f; jmp 2f; 1: mov (%esp),%eax; ret $8; 2: nop")           \
	X(call_indirect_32, END, CODE, "call 3f; 3: pop %ebx; lea 1f-3b(%ebx),%ebx; call *%ebx; jmp 2f; 1: ret; 2: nop") \
	X(jmp16_truncates, 14, CODE, "mov $0x12340010,%eax; jmpw *%ax")                            \
	X(call16, 14, CODE, "mov $0x12340010,%eax; callw *%ax")                                    \
	X(loop_16, END, CODE, "mov $0x10002,%ecx; 1: inc %eax; addr16 loop 1b; jcxz 2f; nop; 2: nop") \
	X(enter_leave_32, END, CODE, "enter $16,$0; mov %ebp,%eax; leave; enter $8,$3; enterw $4,$1; leavew") \
	X(pushf_popf_32, END, CODE, "stc; pushf; pop %eax; pushfw; xor $0x4d5,%eax; push %eax; popf; popfw") \
	X(string_16, 14, CODE, "mov $0x20000100,%esi; mov $0x20000200,%edi; movsl; mov $3,%ecx; rep movsw; addr16 lodsb") \
	X(rep_16_count, END, CODE, "mov $0x20000200,%edi; mov $0x10000,%ecx; addr16 rep stosb; mov $0x50002,%ecx; xor %eax,%eax; jcxz 1f; 1: nop") \
	X(xlat_32, END, CODE, "mov $0x20000100,%ebx; mov $0x80,%al; xlat; .byte 0x26; xlat")       \
	X(arpl, END, CODE, "mov $0x1234,%eax; mov $3,%ebx; cmp %eax,%eax; arpl %bx,%ax; setz %cl; arpl %bx,%ax; setz %ch; cmp $1,%esp") \
	X(moffs_32, END, CODE, "mov 0x20000100,%al; mov 0x20000104,%eax; mov %ax,0x20000200")      \
	X(imul_div_32, END, CODE, "imul $77,%ebx,%ecx; mov $5,%edx; mov $1000,%ebx; div %ebx; cmp $1,%esp") \
	X(sse_32, END, CODE, "movups 0x20000100,%xmm0; pshufb %xmm0,%xmm7; movd %xmm7,%eax; pextrw $3,%xmm0,%ecx; cvtsi2ss %eax,%xmm1; movmskps %xmm1,%edx") \
	X(x87_32, END, CODE, "fldpi; fldl 0x20000600; faddp; fstpt 0x20000100; fistl 0x20000200; fnstsw %ax") \
	X(fxsave_32, END, CODE, "movups 0x20000100,%xmm3; fxsave 0x20001000; xorps %xmm3,%xmm3; fxrstor 0x20001000; movw $0,0x20001006; movl $0,0x20001008; movl $0,0x2000100c; movl $0,0x20001010; movl $0,0x20001014") \
	X(fxrstor_wraps_4g, 14, CODE, "mov $0xffffffb0,%eax; fxrstor (%eax)")                      \
	X(fxsave_wraps_4g, 14, CODE, "mov $0xffffffb0,%eax; fxsave (%eax)")                        \
	X(cmpxchg8b_32, END, CODE, "mov 0x20000100,%eax; mov 0x20000104,%edx; lock cmpxchg8b 0x20000100; cmpxchg8b 0x20000100") \
	X(crc32_32, END, CODE, "crc32b %cl,%eax; crc32w 0x20000100,%eax; crc32l %esi,%eax")        \
	X(swapgs_undefined, 6, CODE, ".byte 0x0f,0x01,0xf8")                                       \
	X(rdfsbase_undefined, 6, CODE, ".byte 0xf3,0x0f,0xae,0xc0")                                \
	X(split_page_32, 14, CODE, "mov %eax,0x20003ffe")

/* clang-format on */

#define ASM_BITS(n, a, bits)                                                                       \
	__asm__(".pushsection .rodata\n"                                                           \
		".code" #bits "\n"                                                                 \
		"edge_" #n ":\n" a "\n"                                                            \
		"edge_" #n "_end:\n"                                                               \
		".code64\n"                                                                        \
		".popsection\n");                                                                  \
	extern const u8 edge_##n[], edge_##n##_end[];
#define ASM(n, v, w, a) ASM_BITS(n, a, 64)
#define ASM32(n, v, w, a) ASM_BITS(n, a, 32)
EDGES(ASM)
EDGES32(ASM32)

/* What a row of the tables becomes. */
struct edge {
	const u8 *code, *end;
	u64 va;
	u8 vector;
	enum diff_mode mode;
};

#define ROW(n, v, w, a) { edge_##n, edge_##n##_end, DIFF_##w + 0x100, v, DIFF_64 },
#define ROW32(n, v, w, a) { edge_##n, edge_##n##_end, DIFF_##w + 0x100, v, DIFF_32 },
static struct edge edges[] = { EDGES(ROW) EDGES32(ROW32) };

static void run_edge(void **state)
{
	static struct diff_seq q;
	static const struct diff_effort effort = { .native = true, .hot = 3, .budgets = 60 };
	const struct diff_result *n;
	const struct edge *e = *state;
	bool ok;

	native_arm(); /* cmocka puts its own handlers in place before each test */
	diff_gen_raw(&q, e->code, (size_t)(e->end - e->code), e->va);
	q.mode = e->mode;
	ok = diff_check(&q, &effort, stderr);
	n = &diff_last()->r[0];
	if (!ok || n->end != DIFF_EXC || n->vector != e->vector) {
		diff_print(&q, stderr);
		fprintf(stderr, "  native: exception %u at %llx, expected %u\n", n->vector,
			(unsigned long long)n->s.rip, e->vector);
	}
	assert_true(ok);
	assert_int_equal(n->end, DIFF_EXC);
	assert_int_equal(n->vector, e->vector);
}

/* The host may have them; the CPU model of guest.c does not. */
static void not_in_the_model(void **state)
{
	static const u8 insns[][6] = {
		{ 0x0f, 0xc7, 0xf0 },		  /* rdrand %eax */
		{ 0x0f, 0xc7, 0xf8 },		  /* rdseed %eax */
		{ 0x0f, 0x38, 0xf0, 0x03 },	  /* movbe (%rbx),%eax */
		{ 0xc5, 0xf0, 0x58, 0xc1 },	  /* vaddps %xmm1,%xmm1,%xmm0 */
		{ 0x66, 0x0f, 0x38, 0xdc, 0xc1 }, /* aesenc %xmm1,%xmm0 */
		{ 0xc7, 0xf8, 0x10 },		  /* xbegin .+22 */
		{ 0x0f, 0x01, 0xd0 },		  /* xgetbv, with CR4.OSXSAVE clear */
	};
	static struct diff_seq q;
	static struct diff_result g;

	for (unsigned i = 0; i < ARRAY_LEN(insns); i++) {
		diff_gen_raw(&q, insns[i], sizeof(insns[i]), DIFF_CODE);
		guest_start(DIFF_INTERP, &q, true);
		guest_go(DIFF_INTERP, &q, 1000, &g);
		assert_int_equal(g.end, DIFF_EXC);
		assert_int_equal(g.vector, X86_UD);
		assert_int_equal(g.s.rip, DIFF_CODE);
	}
}

#define TEST(n, v, w, a) { #n, run_edge, NULL, NULL, &edges[INDEX_##n] },
#define NUMBER(n, v, w, a) INDEX_##n,
enum { EDGES(NUMBER) EDGES32(NUMBER) INDEX_END };

#define EXIT_SKIP 77

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = { EDGES(TEST) EDGES32(TEST)
							   cmocka_unit_test(not_in_the_model) };
	int ret = guest_open();

	if (ret) {
		fprintf(stderr, "cannot set up the soft engine: %s\n", strerror(-ret));
		return 1;
	}
	ret = native_open();
	if (ret == -ENOSYS) {
		printf("SKIP: this host's kernel does not enable the FSGSBASE instructions for user "
		       "programs; Linux 5.9 or newer on a CPU with FSGSBASE would un-skip it\n");
		return EXIT_SKIP;
	}
	diff_native_twice(argc > 1 && !strcmp(argv[1], "--native"));
	if (ret) {
		fprintf(stderr, "cannot set up the native runner: %s\n", strerror(-ret));
		return 1;
	}
	if (argc > 2) /* a pattern: only the cases that match */
		cmocka_set_test_filter(argv[2]);
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	guest_close();
	native_close();
	return ret;
}
