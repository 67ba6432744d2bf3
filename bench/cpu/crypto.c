// SPDX-License-Identifier: Apache-2.0
/*
 * crypto.c - what "openssl speed" does, but so much of it instead of so long
 *
 * usage: crypto sha256|aes-128-gcm|x25519 COUNT
 *
 * openssl speed works until an alarm comes, and a guest's alarm clock is not the host's: under QEMU
 * with PIT interrupts only, a second's alarm was seen to come after 20 ms. The first two work on
 * 8 KiB a time. Prints some bytes of the result. The functions are declared here, after OpenSSL 3.0's
 * manual pages EVP_DigestInit(3), EVP_EncryptInit(3), EVP_PKEY_new(3) and EVP_PKEY_derive(3), so
 * that OpenSSL's headers need not be installed.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVP_PKEY_X25519 1034

void *EVP_MD_CTX_new(void);
const void *EVP_sha256(void);
int EVP_DigestInit_ex(void *ctx, const void *md, void *engine);
int EVP_DigestUpdate(void *ctx, const void *data, size_t len);
int EVP_DigestFinal_ex(void *ctx, unsigned char *md, unsigned int *len);
void *EVP_CIPHER_CTX_new(void);
const void *EVP_aes_128_gcm(void);
int EVP_EncryptInit_ex(void *ctx, const void *cipher, void *engine, const unsigned char *key,
		       const unsigned char *iv);
int EVP_EncryptUpdate(void *ctx, unsigned char *out, int *outl, const unsigned char *in, int inl);
void *EVP_PKEY_new_raw_private_key(int type, void *engine, const unsigned char *key, size_t len);
void *EVP_PKEY_CTX_new(void *pkey, void *engine);
int EVP_PKEY_derive_init(void *ctx);
int EVP_PKEY_derive_set_peer(void *ctx, void *peer);
int EVP_PKEY_derive(void *ctx, unsigned char *key, size_t *len);

static unsigned char data[8192];
static unsigned char out[8192 + 16];

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "crypto: %s failed\n", what);
		exit(1);
	}
}

static void do_sha256(unsigned long count)
{
	void *ctx = EVP_MD_CTX_new();
	unsigned int len;

	check(ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL), "EVP_DigestInit_ex");
	while (count--)
		check(EVP_DigestUpdate(ctx, data, sizeof(data)), "EVP_DigestUpdate");
	check(EVP_DigestFinal_ex(ctx, out, &len), "EVP_DigestFinal_ex");
}

static void do_gcm(unsigned long count)
{
	static const unsigned char key[16] = { 1, 2, 3, 4, 5 };
	static const unsigned char iv[12] = { 6, 7, 8 };
	void *ctx = EVP_CIPHER_CTX_new();
	int len;

	check(ctx && EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, iv),
	      "EVP_EncryptInit_ex");
	while (count--)
		check(EVP_EncryptUpdate(ctx, out, &len, data, sizeof(data)), "EVP_EncryptUpdate");
}

static void do_x25519(unsigned long count)
{
	static const unsigned char mine[32] = { 1, 2, 3 };
	static const unsigned char theirs[32] = { 9, 8, 7 };
	void *a = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, mine, sizeof(mine));
	void *b = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, theirs, sizeof(theirs));
	void *ctx = a ? EVP_PKEY_CTX_new(a, NULL) : NULL;
	size_t len = 32;

	check(ctx && b && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, b) == 1,
	      "EVP_PKEY_derive_init");
	while (count--)
		check(EVP_PKEY_derive(ctx, out, &len) == 1, "EVP_PKEY_derive");
}

int main(int argc, char **argv)
{
	unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 13);
	if (count && !strcmp(argv[1], "sha256"))
		do_sha256(count);
	else if (count && !strcmp(argv[1], "aes-128-gcm"))
		do_gcm(count);
	else if (count && !strcmp(argv[1], "x25519"))
		do_x25519(count);
	else
		check(0, "usage: sha256|aes-128-gcm|x25519 COUNT:");
	for (unsigned int i = 0; i < 32; i++)
		printf("%02x", out[i]);
	printf("\n");
	return 0;
}
