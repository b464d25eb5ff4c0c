"""Encryption at rest: data keys, and the key-encryption key that wraps them.

Kek       wraps data keys: file_kek, credential_kek, passphrase_kek, pkcs11_kek; open_kek chooses
Keyring   data keys by purpose and generation, in secrets/keyring.json; seals and unseals
recovery, archive_stream, backup   archives that an offline recovery key opens
"""
