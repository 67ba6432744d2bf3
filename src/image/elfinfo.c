// SPDX-License-Identifier: Apache-2.0
/*
 * elfinfo.c - the few facts of an ELF file that its loading depends on
 *
 * Everything is taken from the program headers, as a loader does (System V ABI, chapter 5), since
 * section headers may be stripped. libelf checks ranges against the file; strings are bounded by
 * DT_STRSZ.
 */
#include "image/elfinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEEDED_MAX 4096
#define STRTAB_MAX (64u << 20)

void elfinfo_fini(struct elfinfo *i)
{
	for (size_t k = 0; k < i->n_needed; k++)
		free(i->needed[k]);
	free(i->needed);
	free(i->interp);
	free(i->soname);
	free(i->rpath);
	free(i->runpath);
	*i = (struct elfinfo){ 0 };
}

/* The file offset of virtual address @va, or -1. */
static s64 offset_of(Elf *elf, size_t n_phdr, u64 va)
{
	GElf_Phdr ph;

	for (size_t i = 0; i < n_phdr; i++)
		if (gelf_getphdr(elf, (int)i, &ph) && ph.p_type == PT_LOAD && va >= ph.p_vaddr &&
		    va - ph.p_vaddr < ph.p_filesz)
			return (s64)(va - ph.p_vaddr + ph.p_offset);
	return -1;
}

/* A copy of the string at @off of the table @d into *@slot, once. */
static int take(const Elf_Data *d, u64 off, char **slot)
{
	if (off >= d->d_size || !memchr((char *)d->d_buf + off, 0, d->d_size - off))
		return -ENOEXEC;
	if (*slot)
		return 0;
	*slot = strdup((char *)d->d_buf + off);
	return *slot ? 0 : -ENOMEM;
}

static int take_needed(struct elfinfo *i, const Elf_Data *d, u64 off)
{
	char *name = NULL, **more;
	int ret;

	if (i->n_needed >= NEEDED_MAX)
		return -ENOEXEC;
	ret = take(d, off, &name);
	if (ret)
		return ret;
	more = realloc(i->needed, (i->n_needed + 1) * sizeof(*more));
	if (!more) {
		free(name);
		return -ENOMEM;
	}
	i->needed = more;
	more[i->n_needed++] = name;
	return 0;
}

/* The string table that the dynamic section names, NULL if there is none or it is broken. */
static Elf_Data *dyn_strings(Elf *elf, size_t n_phdr, Elf_Data *dyn, size_t n)
{
	u64 strtab = 0, strsz = 0;
	GElf_Dyn d;
	s64 off;

	for (size_t k = 0; k < n && gelf_getdyn(dyn, (int)k, &d) && d.d_tag != DT_NULL; k++) {
		if (d.d_tag == DT_STRTAB)
			strtab = d.d_un.d_ptr;
		else if (d.d_tag == DT_STRSZ)
			strsz = d.d_un.d_val;
	}
	off = offset_of(elf, n_phdr, strtab);
	if (off < 0 || !strsz || strsz > STRTAB_MAX)
		return NULL;
	return elf_getdata_rawchunk(elf, off, strsz, ELF_T_BYTE);
}

static int read_dynamic(Elf *elf, size_t n_phdr, const GElf_Phdr *ph, struct elfinfo *i)
{
	Elf_Data *dyn, *str;
	GElf_Dyn d;
	size_t n, size = gelf_fsize(elf, ELF_T_DYN, 1, EV_CURRENT);
	int ret = 0;

	if (!size || ph->p_filesz < size || ph->p_filesz > STRTAB_MAX)
		return -ENOEXEC;
	n = ph->p_filesz / size;
	dyn = elf_getdata_rawchunk(elf, (s64)ph->p_offset, n * size, ELF_T_DYN);
	if (!dyn)
		return -ENOEXEC;
	str = dyn_strings(elf, n_phdr, dyn, n);
	for (size_t k = 0; !ret && k < n && gelf_getdyn(dyn, (int)k, &d); k++) {
		if (d.d_tag == DT_NULL)
			break;
		if (d.d_tag == DT_FLAGS_1)
			i->nodeflib = d.d_un.d_val & DF_1_NODEFLIB;
		if (d.d_tag != DT_NEEDED && d.d_tag != DT_SONAME && d.d_tag != DT_RPATH &&
		    d.d_tag != DT_RUNPATH)
			continue;
		if (!str)
			return -ENOEXEC;
		if (d.d_tag == DT_NEEDED)
			ret = take_needed(i, str, d.d_un.d_val);
		else
			ret = take(str, d.d_un.d_val,
				   d.d_tag == DT_SONAME	 ? &i->soname
				   : d.d_tag == DT_RPATH ? &i->rpath
							 : &i->runpath);
	}
	return ret;
}

static int read_elf(Elf *elf, struct elfinfo *i)
{
	GElf_Ehdr eh;
	GElf_Phdr ph;
	Elf_Data *d;
	size_t n;
	int ret = 0;

	if (!gelf_getehdr(elf, &eh) || elf_getphdrnum(elf, &n) < 0)
		return -ENOEXEC;
	i->class = eh.e_ident[EI_CLASS];
	i->machine = eh.e_machine;
	i->type = eh.e_type;
	for (size_t k = 0; !ret && k < n; k++) {
		if (!gelf_getphdr(elf, (int)k, &ph))
			return -ENOEXEC;
		if (ph.p_type == PT_INTERP && !i->interp) {
			d = ph.p_filesz > 4096 ? NULL
					       : elf_getdata_rawchunk(elf, (s64)ph.p_offset,
								      ph.p_filesz, ELF_T_BYTE);
			ret = d ? take(d, 0, &i->interp) : -ENOEXEC;
		} else if (ph.p_type == PT_DYNAMIC) {
			ret = read_dynamic(elf, n, &ph, i);
		}
	}
	return ret;
}

int elfinfo_read(const char *path, struct err *e, struct elfinfo *ret_info)
{
	struct elfinfo i = { 0 };
	unsigned char magic[SELFMAG];
	Elf *elf;
	int fd, ret;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_sys(e, -errno, "cannot read %s", path);
	if (pread(fd, magic, sizeof(magic), 0) != SELFMAG || memcmp(magic, ELFMAG, SELFMAG) != 0) {
		close(fd);
		return -ENOEXEC;
	}
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	ret = elf ? read_elf(elf, &i) : -ENOEXEC;
	elf_end(elf);
	close(fd);
	if (ret) {
		elfinfo_fini(&i);
		if (ret == -ENOEXEC)
			return err_set(e, ret, "%s is a damaged ELF file", path);
		return err_sys(e, ret, "cannot read %s", path);
	}
	*ret_info = i;
	return 0;
}
