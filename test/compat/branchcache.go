package compat

const (
	peersControl = "test/scenario.TestPeersAreLookedAfter"
	oneCache     = "the cache is one directory, peers/ of the state directory; a larger disk is mounted there"
)

// branchcache are the cmdlets of BranchCache and the verb of netsh that the specification names.
var branchcache = []Section{
	{"BranchCache: its cmdlets, and netsh", "What they do is done by Ebb's own commands, of the same machine: there is no remote control. See [peer caching](peers.md).", []Row{
		{BITS: "Get-BCStatus", Ebb: "`ebb peers status`", Test: peersControl},
		{BITS: "Get-BCClientConfiguration", Ebb: "`ebb peers status`, `ebb policy show`", Test: peersControl},
		{BITS: "Get-BCContentServerConfiguration", Ebb: "the server's configuration: `[branchcache]`", Test: "test/scenario.TestServeBranchCacheIsForWhoMayRead"},
		{BITS: "Get-BCHostedCacheServerConfiguration", Ebb: "the server's configuration: `[hosted_cache]`", Test: "test/scenario.TestServeHostedCache"},
		{BITS: "Get-BCNetworkConfiguration", Ebb: "`ebb peers status`: addresses that are served at, and networks", Test: "test/scenario.TestPeersOfANetwork", Why: "the firewall is not looked at"},
		{BITS: "Get-BCDataCache", Ebb: "`ebb cache info`, `ebb cache list`", Test: peersControl},
		{BITS: "Get-BCHashCache", Ebb: "the server's metrics `ebb_serve_branchcache_hashes_bytes`, `..._hashing`", Test: "test/scenario.TestServeBranchCacheIsForWhoMayRead"},
		{BITS: "Get-BCDataCacheExtension", Why: oneCache},
		{BITS: "Enable-BCDistributed", Ebb: "`ebb peers enable`", Test: "test/scenario.TestPeersOfANetwork"},
		{BITS: "Enable-BCLocal", Ebb: "`ebb peers enable local`", Test: peersControl},
		{BITS: "Enable-BCHostedClient", Ebb: "`ebb peers enable hosted --hosted-cache NAME`", Test: "test/scenario.TestBytesFromPeersAreTold", Why: "without -UseSCP: there is no Active Directory to ask"},
		{BITS: "Enable-BCHostedServer", Ebb: "`ebb serve --hosted-cache`", Test: "test/scenario.TestServeHostedCache", Why: "without -RegisterSCP: there is no Active Directory to tell"},
		{BITS: "Disable-BC", Ebb: "`ebb peers disable`", Test: peersControl},
		{BITS: "Reset-BC", Ebb: "`ebb peers disable`, `ebb cache clear`, `ebb policy set peers.KEY=`", Test: peersControl},
		{BITS: "Set-BCCache", Ebb: "`ebb cache limit 5%`, `ebb cache limit 20GiB`", Test: peersControl, Why: "without -MoveTo: " + oneCache + "; without -Defragment: there is nothing to be done"},
		{BITS: "Clear-BCCache", Ebb: "`ebb cache clear`", Test: peersControl},
		{BITS: "Set-BCDataCacheEntryMaxAge", Ebb: "`ebb cache limit --max-age 28d`", Test: peersControl},
		{BITS: "Add-BCDataCacheExtension", Why: oneCache},
		{BITS: "Remove-BCDataCacheExtension", Why: oneCache},
		{BITS: "Export-BCCachePackage", Ebb: "`ebb cache export`", Test: peersControl, Why: "a tar file of our own: the format of Windows is not published"},
		{BITS: "Import-BCCachePackage", Ebb: "`ebb cache import`", Test: peersControl, Why: "of what `ebb cache export` made"},
		{BITS: "Publish-BCWebContent", Ebb: "nothing to do: the server hashes a file when somebody asks for it", Test: "test/scenario.TestServeBranchCacheIsForWhoMayRead"},
		{BITS: "Publish-BCFileContent", Why: "it is for shares (SMB), which Ebb does not serve"},
		{BITS: "Set-BCSecretKey", Ebb: "`ebb serve --branchcache-secret FILE`", Test: "test/scenario.TestServeBranchCacheSendsGoldenBytes", Why: "at random unless given; not from a passphrase, which can be guessed from what clients have"},
		{BITS: "Export-BCSecretKey", Ebb: "`ebb peers secret export`", Test: "test/scenario.TestPeersSecretExportAndImport", Why: "the same file as Windows writes"},
		{BITS: "Import-BCSecretKey", Ebb: "`ebb peers secret import`", Test: "test/scenario.TestPeersSecretExportAndImport"},
		{BITS: "netsh branchcache exportkey", Ebb: "`ebb peers secret export`", Test: "internal/peerdist.TestGoldenSecretFile", Why: "the same file"},
		{BITS: "Set-BCAuthentication", Why: "who may offer to a hosted cache is for its firewall to say: there is no domain"},
		{BITS: "Set-BCMinSMBLatency", Why: "it is for shares (SMB)"},
		{BITS: "Enable-BCServeOnBattery, Disable-BCServeOnBattery", Ebb: "`ebb peers enable --serve-on-battery`, `ebb policy set peers.serve_on_battery=false`", Test: peersControl},
		{BITS: "Enable-BCDowngrading, Disable-BCDowngrading", Ebb: "`ebb peers enable --version1`, `ebb policy set peers.version1_only=false`", Test: peersControl},
	}},
	{"Policies of BITS for peer caching", "In the table `[bits]` of the configuration, by their names: [policy](policy.md).", []Row{
		{BITS: "DisableBranchCache", Ebb: "1: `peers.mode = \"off\"`", Test: "internal/policy.TestBITSNames/no BranchCache"},
		{BITS: "EnablePeercaching", Ebb: "1: `peers.mode = \"distributed\"`", Test: "internal/policy.TestBITSNames/peer caching", Why: "in BITS it is dead since 4.0; here it turns on what took its place"},
		{BITS: "DisablePeerCachingClient, DisablePeerCachingServer", Ebb: "1: `peers.fetch = false`, `peers.serve = false`", Test: "internal/policy.TestBITSNames/peer caching"},
		{BITS: "MaxCacheSize, MaxContentAge, MaxBandwidthServed", Ebb: "`peers.cache_size`, `peers.max_age`, `peers.upload_rate`", Test: "internal/policy.TestBITSNames/peer caching"},
	}},
}
