# Adds up what the test harnesses printed, for the last line of `make test`.
# Reads cargo's "test result: …" lines and the "sdk …" lines of tests/it/sdk.rs.

/^test result: / {
    harnesses++
    for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^passed/) passed += $i
        if ($(i + 1) ~ /^failed/) failed += $i
        if ($(i + 1) ~ /^ignored/) ignored += $i
    }
}

/^sdk [a-z]+: [0-9]+ passed, [0-9]+ failed/ {
    sdk = sdk sprintf(", %s sdk %d passed %d failed", substr($2, 1, length($2) - 1), $3, $5)
}

/^((sdk [a-z]+|contract): )?not run: / { not_run++ }

END {
    printf "%d passed, %d failed, %d ignored in %d harnesses%s", passed, failed, ignored, harnesses, sdk
    if (not_run) printf ", %d not run", not_run
    if (code != 0 && failed == 0) printf " (and cargo ended with %d: see above)", code
    printf "\n"
}
