// SPDX-License-Identifier: Apache-2.0
/*
 * closure.c - the host files a program needs to start: interpreters and shared libraries
 *
 * How it works
 * A script needs its interpreter, which may itself be a script (execve(2) stops after a few
 * levels), and with env(1) also the program that env looks up. An ELF program needs PT_INTERP, and
 * breadth-first every DT_NEEDED of everything loaded so far, each name once. A name is searched as
 * ld.so(8) does:
 *
 *	DT_RPATH of the object that needs it and of those that loaded it, up to the program,
 *	    each only if it has no DT_RUNPATH, and none at all if the first has one;
 *	LD_LIBRARY_PATH; DT_RUNPATH of the object itself; /etc/ld.so.cache; default directories.
 *
 * $ORIGIN is the directory of the object the path stands in, $LIB the system's library directory,
 * $PLATFORM the machine. A candidate for another machine or word size is passed over, as ld.so
 * does. Asking ldd(1) would be simpler, but it executes the program, and does not see what the
 * *guest's* CPU would choose: glibc-hwcaps variants are left out here for that reason.
 *
 * The guest's ld.so must come to the same result. It has the same default directories, so the
 * cache is packed only if a library was found through it elsewhere. musl's loader has its own
 * rules: one list of directories, and the C library is the loader itself.
 */
#include "image/closure.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/elfinfo.h"
#include "image/ldcache.h"

#define SCRIPT_DEPTH 5	/* levels of #! that execve follows */
#define SCRIPT_HEAD 256 /* bytes of a script that it looks at (BINPRM_BUF_SIZE) */
#define OBJECTS_MAX 4096
#define MUSL_PATH "/lib:/usr/local/lib:/usr/lib"

static const char *const dirs64[] = { "/lib/x86_64-linux-gnu",
				      "/usr/lib/x86_64-linux-gnu",
				      "/lib64",
				      "/usr/lib64",
				      "/lib",
				      "/usr/lib",
				      NULL };
static const char *const dirs32[] = { "/lib/i386-linux-gnu",
				      "/usr/lib/i386-linux-gnu",
				      "/lib32",
				      "/usr/lib32",
				      "/lib",
				      "/usr/lib",
				      NULL };
/* What $LIB may be; the guest has the host's ld.so, which knows which. */
static const char *const libs64[] = { "lib/x86_64-linux-gnu", "lib64", "lib", NULL };
static const char *const libs32[] = { "lib/i386-linux-gnu", "lib32", "lib", NULL };

/* A loaded object. */
struct obj {
	char *path;   /* as found */
	char *name;   /* as asked for: DT_NEEDED */
	char *origin; /* $ORIGIN */
	const struct obj *loader;
	struct elfinfo info;
};

/* One program's search. */
struct search {
	struct closure *c;
	const struct closure_env *env;
	struct err *e;
	struct ldcache cache;
	struct obj **obj; /* breadth-first; [0] is the program */
	size_t n;
	char *musl_path;    /* the loader's own list, NULL with glibc */
	bool cache_matters; /* a library was found by the cache alone */
};

void closure_fini(struct closure *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->path[i]);
	free(c->path);
	*c = (struct closure){ 0 };
}

static int add_path(struct closure *c, const char *path)
{
	char **more, *copy;

	for (size_t i = 0; i < c->n; i++)
		if (!strcmp(c->path[i], path))
			return 0;
	copy = strdup(path);
	more = realloc(c->path, (c->n + 1) * sizeof(*more));
	if (more)
		c->path = more;
	if (!copy || !more) {
		free(copy);
		return -ENOMEM;
	}
	c->path[c->n++] = copy;
	return 0;
}

int closure_which(const char *path, const char *name, char **ret_file)
{
	char file[PATH_MAX];
	struct stat sb;

	for (const char *p = path ? path : ""; *p; p += *p == ':') {
		size_t n = strcspn(p, ":");
		int len = snprintf(file, sizeof(file), "%.*s/%s", (int)n, p, name);

		/* Not the empty (current) directory: commands of a test come from named places. */
		if (n && *p == '/' && len < (int)sizeof(file) && !stat(file, &sb) &&
		    S_ISREG(sb.st_mode) && !access(file, X_OK)) {
			*ret_file = strdup(file);
			return *ret_file ? 0 : -ENOMEM;
		}
		p += n;
	}
	return -ENOENT;
}

static void obj_free(struct obj *o)
{
	if (!o)
		return;
	elfinfo_fini(&o->info);
	free(o->path);
	free(o->name);
	free(o->origin);
	free(o);
}

/* Takes @info (zeroes it), also on failure. */
static int obj_add(struct search *s, const char *path, const char *name, const struct obj *loader,
		   struct elfinfo *info)
{
	struct obj **more, *o = calloc(1, sizeof(*o));
	char *slash;

	if (s->n >= OBJECTS_MAX) {
		free(o);
		elfinfo_fini(info);
		return -E2BIG;
	}
	more = realloc(s->obj, (s->n + 1) * sizeof(*more));
	if (more)
		s->obj = more;
	if (!o || !more) {
		free(o);
		elfinfo_fini(info);
		return -ENOMEM;
	}
	o->info = *info;
	*info = (struct elfinfo){ 0 };
	o->loader = loader;
	o->path = strdup(path);
	o->name = strdup(name);
	/* The program's origin is its real place (/proc/self/exe), a library's that of its name. */
	o->origin = loader ? strdup(path) : realpath(path, NULL);
	slash = o->origin ? strrchr(o->origin, '/') : NULL;
	if (!o->path || !o->name || !slash) {
		obj_free(o);
		return -ENOMEM;
	}
	slash[slash == o->origin] = 0;
	s->obj[s->n++] = o;
	return 0;
}

/* Tries one file. 1 if it was loaded, 0 if it is not the one, or -ENOMEM, -E2BIG. */
static int try_file(struct search *s, const struct obj *o, const char *name, const char *path)
{
	const struct elfinfo *want = &s->obj[0]->info;
	struct elfinfo info;
	char abs[PATH_MAX], cwd[PATH_MAX];
	int ret;

	if (path[0] != '/') {
		if (!getcwd(cwd, sizeof(cwd)) ||
		    snprintf(abs, sizeof(abs), "%s/%s", cwd, path) >= (int)sizeof(abs))
			return 0;
		path = abs;
	}
	ret = elfinfo_read(path, NULL, &info);
	if (ret)
		return ret == -ENOMEM ? ret : 0;
	if (info.class != want->class || info.machine != want->machine || info.type != ET_DYN) {
		elfinfo_fini(&info);
		return 0;
	}
	ret = obj_add(s, path, name, o, &info);
	if (!ret)
		ret = add_path(s->c, path);
	return ret ? ret : 1;
}

/* If @p begins with $NAME or ${NAME}, its length, else 0. */
static size_t token(const char *p, const char *name)
{
	size_t n = strlen(name);

	if (p[1] == '{')
		return !strncmp(p + 2, name, n) && p[2 + n] == '}' ? n + 3 : 0;
	return !strncmp(p + 1, name, n) ? n + 1 : 0;
}

/*
 * Expands the dynamic string tokens of @in (@n bytes) as they stand in @o.
 * Returns false if the result is too long. *ret_lib: $LIB occurred.
 */
static bool expand(const struct obj *o, const char *in, size_t n, const char *lib, char *out,
		   size_t size, bool *ret_lib)
{
	size_t len = 0;

	*ret_lib = false;
	for (size_t i = 0, skip; i < n; i += skip) {
		const char *with = NULL;

		skip = 0;
		if (in[i] == '$') {
			if ((skip = token(in + i, "ORIGIN")))
				with = o->origin;
			else if ((skip = token(in + i, "PLATFORM")))
				with = o->info.class == ELFCLASS64 ? "x86_64" : "i686";
			else if ((skip = token(in + i, "LIB")))
				with = lib;
			*ret_lib |= with == lib;
		}
		if (len + (with ? strlen(with) : 1) >= size)
			return false;
		if (with) {
			memcpy(out + len, with, strlen(with));
			len += strlen(with);
		} else {
			out[len++] = in[i];
			skip = 1;
		}
	}
	out[len] = 0;
	return true;
}

/* Tries @dir/@name, or @dir alone if @name is NULL, tokens expanded as in @in. Asked for by @o. */
static int try_expanded(struct search *s, const struct obj *o, const struct obj *in,
			const char *needed, const char *dir, size_t n, const char *name)
{
	const char *const *lib = s->obj[0]->info.class == ELFCLASS64 ? libs64 : libs32;
	char path[PATH_MAX];
	bool has_lib = true;
	int ret = 0;

	for (; !ret && has_lib && *lib; lib++) {
		size_t len;

		if (!expand(in, dir, n, *lib, path, sizeof(path), &has_lib))
			return 0;
		len = strlen(path);
		if (name && snprintf(path + len, sizeof(path) - len, "%s%s",
				     len && path[len - 1] == '/' ? "" : "/",
				     name) >= (int)(sizeof(path) - len))
			return 0;
		ret = try_file(s, o, needed, path);
	}
	return ret;
}

/* Tries a list of directories that stands in @in. */
static int try_list(struct search *s, const struct obj *o, const struct obj *in, const char *list,
		    const char *sep, const char *name)
{
	int ret = 0;

	while (!ret && list && *list) {
		size_t n = strcspn(list, sep);

		if (n)
			ret = try_expanded(s, o, in, name, list, n, name);
		list += n + (list[n] != 0);
	}
	return ret;
}

static int try_rpaths(struct search *s, const struct obj *o, const char *name)
{
	int ret = 0;

	if (o->info.runpath)
		return 0;
	for (const struct obj *in = o; !ret && in; in = in->loader)
		if (!in->info.runpath)
			ret = try_list(s, o, in, in->info.rpath, ":", name);
	return ret;
}

static bool in_default_dir(const char *const *dirs, const char *path)
{
	size_t n = (size_t)(strrchr(path, '/') - path);

	for (; *dirs; dirs++)
		if (strlen(*dirs) == n && !memcmp(*dirs, path, n))
			return true;
	return false;
}

static int try_system(struct search *s, const struct obj *o, const char *name)
{
	const char *const *dirs = s->obj[0]->info.class == ELFCLASS64 ? dirs64 : dirs32;
	const char *path;
	u32 pos = 0;
	int ret = 0;

	while (!ret && !o->info.nodeflib && (path = ldcache_next(&s->cache, name, &pos))) {
		if (path[0] != '/')
			continue;
		ret = try_file(s, o, name, path);
		if (ret == 1 && !in_default_dir(dirs, path))
			s->cache_matters = true;
	}
	for (; !ret && !o->info.nodeflib && *dirs; dirs++)
		ret = try_list(s, o, o, *dirs, ":", name);
	return ret;
}

/* 1 if @name is loaded now, 0 if it cannot be found. */
static int find_library(struct search *s, const struct obj *o, const char *name)
{
	int ret;

	for (size_t i = 1; i < s->n; i++)
		if (!strcmp(s->obj[i]->name, name) ||
		    (s->obj[i]->info.soname && !strcmp(s->obj[i]->info.soname, name)))
			return 1;
	if (strchr(name, '/'))
		return try_expanded(s, o, o, name, name, strlen(name), NULL);
	if (s->musl_path) {
		if (!strncmp(name, "libc.", 5))
			return 1;
		ret = try_list(s, o, o, s->env->ld_library_path, ":", name);
		for (const struct obj *in = o; !ret && in; in = in->loader)
			ret = try_list(s, o, in,
				       in->info.runpath ? in->info.runpath : in->info.rpath, ":",
				       name);
		return ret ? ret : try_list(s, o, o, s->musl_path, ":\n", name);
	}
	ret = try_rpaths(s, o, name);
	if (!ret)
		ret = try_list(s, o, o, s->env->ld_library_path, ":;", name);
	if (!ret)
		ret = try_list(s, o, o, o->info.runpath, ":", name);
	return ret ? ret : try_system(s, o, name);
}

/* musl's loader: its directories are in /etc/ld-musl-ARCH.path, if that exists. */
static int musl_setup(struct search *s, const char *interp)
{
	const char *base = strrchr(interp, '/') + 1;
	struct buf b = { 0 };
	char file[128];
	int fd, ret = 0;

	if (strncmp(base, "ld-musl-", 8) != 0)
		return 0;
	snprintf(file, sizeof(file), "/etc/ld-musl-%.*s.path", (int)strcspn(base + 8, "."),
		 base + 8);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		s->musl_path = strdup(MUSL_PATH);
		return s->musl_path ? 0 : -ENOMEM;
	}
	ret = buf_read_fd(&b, fd, 65536);
	close(fd);
	if (!ret)
		ret = buf_add(&b, NULL, 1);
	if (!ret)
		ret = add_path(s->c, file);
	if (ret) {
		buf_fini(&b);
		return ret;
	}
	s->musl_path = (char *)b.data;
	return 0;
}

static int add_interp(struct search *s)
{
	const struct obj *prog = s->obj[0];
	const char *interp = prog->info.interp;
	struct elfinfo info;
	int ret;

	if (!interp)
		return 0;
	if (interp[0] != '/')
		return err_set(s->e, -ENOENT,
			       "%s asks for the program loader \"%s\", not a full path", prog->path,
			       interp);
	ret = elfinfo_read(interp, NULL, &info);
	if (ret)
		return err_sys(s->e, ret, "%s needs the program loader %s", prog->path, interp);
	ret = obj_add(s, interp, strrchr(interp, '/') + 1, prog, &info);
	if (!ret)
		ret = add_path(s->c, interp);
	return ret ? ret : musl_setup(s, interp);
}

static int missing(struct search *s, const struct obj *o, const char *name)
{
	const char *prog = s->obj[0]->path;

	if (o == s->obj[0])
		return err_set(
			s->e, -ENOENT,
			"%s needs the shared library %s, which is not on this host; install it "
			"or name its directory in LD_LIBRARY_PATH",
			prog, name);
	return err_set(
		s->e, -ENOENT,
		"%s needs the shared library %s (through %s), which is not on this host; install "
		"it or name its directory in LD_LIBRARY_PATH",
		prog, name, o->path);
}

/* The libraries of the ELF program @path. Takes @info. */
static int add_elf(struct closure *c, const char *path, const struct closure_env *env,
		   struct err *e, struct elfinfo *info)
{
	struct search s = { .c = c, .env = env, .e = e };
	int ret;

	ret = obj_add(&s, path, "", NULL, info);
	if (!ret)
		ret = ldcache_open(&s.cache, LDCACHE_FILE);
	if (!ret)
		ret = add_interp(&s);
	for (size_t i = 0; !ret && i < s.n; i++) {
		for (size_t k = 0; !ret && k < s.obj[i]->info.n_needed; k++) {
			const char *name = s.obj[i]->info.needed[k];

			ret = find_library(&s, s.obj[i], name);
			if (!ret)
				ret = missing(&s, s.obj[i], name);
			else if (ret > 0)
				ret = 0;
		}
	}
	if (!ret && s.cache_matters)
		ret = add_path(c, LDCACHE_FILE);
	if (ret == -ENOMEM || ret == -E2BIG)
		err_sys(e, ret, "cannot follow the shared libraries of %s", path);
	for (size_t i = 0; i < s.n; i++)
		obj_free(s.obj[i]);
	free(s.obj);
	free(s.musl_path);
	ldcache_close(&s.cache);
	return ret;
}

static int add_any(struct closure *c, const char *prog, const struct closure_env *env,
		   struct err *e, unsigned depth, enum closure_kind *ret_kind);

static int add_dependency(struct closure *c, const char *script, const char *prog,
			  const struct closure_env *env, struct err *e, unsigned depth)
{
	enum closure_kind kind;
	int ret;

	if (access(prog, F_OK) < 0)
		return err_sys(e, -errno, "the script %s needs its interpreter %s", script, prog);
	ret = add_path(c, prog);
	if (!ret)
		ret = add_any(c, prog, env, e, depth + 1, &kind);
	return ret;
}

/* `#!/usr/bin/env [-S] [NAME=VALUE...] PROG`: PROG is what the script really needs. */
static int add_env(struct closure *c, const char *script, char *args, const struct closure_env *env,
		   struct err *e, unsigned depth)
{
	char *save, *word = strtok_r(args, " \t", &save), *file;
	int ret;

	while (word && (word[0] == '-' || strchr(word, '=')))
		word = strtok_r(NULL, " \t", &save);
	if (!word)
		return 0;
	if (word[0] == '/')
		return add_dependency(c, script, word, env, e, depth);
	ret = closure_which(env->path, word, &file);
	if (ret)
		return err_set(e, ret, "the script %s needs the program %s, which is not in PATH",
			       script, word);
	ret = add_dependency(c, script, file, env, e, depth);
	free(file);
	return ret;
}

/* @head: the first line of the script, without #!. */
static int add_script(struct closure *c, const char *script, char *head,
		      const struct closure_env *env, struct err *e, unsigned depth)
{
	char *interp = head + strspn(head, " \t"), *args;
	const char *base;
	int ret;

	args = interp + strcspn(interp, " \t");
	if (*args)
		*args++ = 0;
	if (interp[0] != '/')
		return err_set(e, -ENOEXEC,
			       "the script %s names its interpreter \"%s\", not a full path",
			       script, interp);
	if (depth >= SCRIPT_DEPTH)
		return err_set(e, -ELOOP, "the script %s has too many levels of interpreters",
			       script);
	ret = add_dependency(c, script, interp, env, e, depth);
	base = strrchr(interp, '/') + 1;
	if (!ret && !strcmp(base, "env"))
		ret = add_env(c, script, args, env, e, depth);
	return ret;
}

static int add_any(struct closure *c, const char *prog, const struct closure_env *env,
		   struct err *e, unsigned depth, enum closure_kind *ret_kind)
{
	char head[SCRIPT_HEAD + 1];
	struct elfinfo info;
	ssize_t n;
	int fd, ret;

	fd = open(prog, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_sys(e, -errno, "cannot read %s", prog);
	n = read(fd, head, SCRIPT_HEAD);
	ret = n < 0 ? -errno : 0;
	close(fd);
	if (n < 0)
		return err_sys(e, ret, "cannot read %s", prog);
	head[n] = 0;
	if (n >= 2 && head[0] == '#' && head[1] == '!') {
		head[strcspn(head, "\n")] = 0;
		*ret_kind = CLOSURE_SCRIPT;
		return add_script(c, prog, head + 2, env, e, depth);
	}
	if (n < SELFMAG || memcmp(head, ELFMAG, SELFMAG) != 0) {
		*ret_kind = CLOSURE_DATA;
		return 0;
	}
	ret = elfinfo_read(prog, e, &info);
	if (ret)
		return ret;
	if ((info.machine != EM_X86_64 && info.machine != EM_386) ||
	    (info.type != ET_EXEC && info.type != ET_DYN)) {
		elfinfo_fini(&info);
		*ret_kind = CLOSURE_ALIEN;
		return 0;
	}
	*ret_kind = CLOSURE_ELF;
	return add_elf(c, prog, env, e, &info);
}

int closure_add(struct closure *c, const char *prog, const struct closure_env *env, struct err *e,
		enum closure_kind *ret_kind)
{
	return add_any(c, prog, env, e, 0, ret_kind);
}
