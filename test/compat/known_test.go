package compat

import (
	"slices"
	"strings"
	"testing"
)

// known are all methods, properties, parameters, switches and codes of BITS 10.3, taken from its
// documentation and not from the table that they are compared with.
var known = []struct{ title, names string }{
	{"IBackgroundCopyManager", `CreateJob GetJob EnumJobs GetErrorDescription`},
	{"IEnumBackgroundCopyJobs, IEnumBackgroundCopyFiles", `Next Skip Reset Clone GetCount`},
	{"IBackgroundCopyJob", `AddFileSet AddFile EnumFiles Suspend Resume Cancel Complete GetId GetType GetProgress GetTimes GetState GetError GetOwner SetDisplayName
		GetDisplayName SetDescription GetDescription SetPriority GetPriority SetNotifyFlags GetNotifyFlags SetNotifyInterface GetNotifyInterface
		SetMinimumRetryDelay GetMinimumRetryDelay SetNoProgressTimeout GetNoProgressTimeout GetErrorCount SetProxySettings GetProxySettings
		TakeOwnership`},
	{"IBackgroundCopyJob2", `SetNotifyCmdLine GetNotifyCmdLine GetReplyProgress GetReplyData SetReplyFileName GetReplyFileName SetCredentials RemoveCredentials`},
	{"IBackgroundCopyJob3", `ReplaceRemotePrefix AddFileWithRanges SetFileACLFlags GetFileACLFlags`},
	{"IBackgroundCopyJob4", `SetPeerCachingFlags GetPeerCachingFlags GetOwnerIntegrityLevel GetOwnerElevationState SetMaximumDownloadTime GetMaximumDownloadTime`},
	{"IBackgroundCopyJob5 (SetProperty, GetProperty)", `COST_FLAGS NOTIFICATION_CLSID DYNAMIC_CONTENT HIGH_PERFORMANCE MAX_DOWNLOAD_SIZE USE_STORED_CREDENTIALS MINIMUM_NOTIFICATION_INTERVAL_MS
		ON_DEMAND_MODE`},
	{"IBackgroundCopyJobHttpOptions, 2 and 3", `SetClientCertificateByID SetClientCertificateByName RemoveClientCertificate GetClientCertificate SetCustomHeaders GetCustomHeaders
		SetSecurityFlags GetSecurityFlags SetHttpMethod GetHttpMethod MakeCustomHeadersWriteOnly SetServerCertificateValidationInterface`},
	{"IBackgroundCopyFile, 2 to 6", `GetRemoteName GetLocalName GetProgress GetFileRanges SetRemoteName GetTemporaryName SetValidationState GetValidationState
		IsDownloadedFromPeer GetPeerDownloadStats GetProperty SetProperty UpdateDownloadPosition RequestFileRanges GetFilledFileRanges`},
	{"IBackgroundCopyError", `GetError GetFile GetErrorDescription GetErrorContextDescription GetProtocol`},
	{"IBackgroundCopyCallback, 2 and 3", `JobTransferred JobError JobModification FileTransferred FileRangesTransferred ValidateServerCertificate`},
	{"IBitsPeerCacheAdministration, IBitsPeerCacheRecord, IBitsPeer and their enumerators", `GetMaximumCacheSize SetMaximumCacheSize GetMaximumContentAge SetMaximumContentAge GetConfigurationFlags SetConfigurationFlags EnumRecords
		GetRecord ClearRecords DeleteRecord DeleteUrl EnumPeers ClearPeers DiscoverPeers IBitsPeerCacheRecord IBitsPeer`},
	{"IBitsTokenOptions", `SetHelperTokenFlags GetHelperTokenFlags SetHelperToken ClearHelperToken GetHelperTokenSid`},
	{"Result codes", `BG_S_ERROR_CONTEXT_NONE BG_S_PARTIAL_COMPLETE BG_S_UNABLE_TO_DELETE_FILES BG_S_PROXY_CHANGED BG_S_OVERRIDDEN_BY_POLICY BG_E_NOT_FOUND
		BG_E_INVALID_STATE BG_E_EMPTY BG_E_FILE_NOT_AVAILABLE BG_E_PROTOCOL_NOT_AVAILABLE BG_E_ERROR_CONTEXT_UNKNOWN
		BG_E_ERROR_CONTEXT_GENERAL_QUEUE_MANAGER BG_E_ERROR_CONTEXT_LOCAL_FILE BG_E_ERROR_CONTEXT_REMOTE_FILE BG_E_ERROR_CONTEXT_GENERAL_TRANSPORT
		BG_E_ERROR_CONTEXT_QUEUE_MANAGER_NOTIFICATION BG_E_DESTINATION_LOCKED BG_E_VOLUME_CHANGED BG_E_ERROR_INFORMATION_UNAVAILABLE
		BG_E_NETWORK_DISCONNECTED BG_E_MISSING_FILE_SIZE BG_E_INSUFFICIENT_HTTP_SUPPORT BG_E_INSUFFICIENT_RANGE_SUPPORT BG_E_REMOTE_NOT_SUPPORTED
		BG_E_NEW_OWNER_DIFF_MAPPING BG_E_NEW_OWNER_NO_FILE_ACCESS BG_E_PROXY_LIST_TOO_LARGE BG_E_PROXY_BYPASS_LIST_TOO_LARGE
		BG_E_INVALID_SERVER_RESPONSE BG_E_TOO_MANY_FILES BG_E_LOCAL_FILE_CHANGED BG_E_ERROR_CONTEXT_REMOTE_APPLICATION BG_E_SESSION_NOT_FOUND
		BG_E_TOO_LARGE BG_E_STRING_TOO_LONG BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH BG_E_SERVER_EXECUTE_ENABLED BG_E_NO_PROGRESS
		BG_E_USERNAME_TOO_LARGE BG_E_PASSWORD_TOO_LARGE BG_E_INVALID_AUTH_TARGET BG_E_INVALID_AUTH_SCHEME BG_E_FILE_NOT_FOUND BG_E_INVALID_RANGE
		BG_E_OVERLAPPING_RANGES BG_E_CONNECT_FAILURE BG_E_UNKNOWN_ERROR BG_E_BLOCKED_BY_POLICY BG_E_INVALID_PROXY_INFO BG_E_INVALID_CREDENTIALS
		BG_E_INVALID_HASH_ALGORITHM BG_E_RECORD_DELETED BG_E_COMMIT_IN_PROGRESS BG_E_DISCOVERY_IN_PROGRESS BG_E_UPNP_ERROR
		BG_E_TEST_OPTION_BLOCKED_DOWNLOAD BG_E_PEERCACHING_DISABLED BG_E_BUSYCACHERECORD BG_E_TOO_MANY_JOBS_PER_USER BG_E_TOO_MANY_JOBS_PER_MACHINE
		BG_E_TOO_MANY_FILES_IN_JOB BG_E_TOO_MANY_RANGES_IN_FILE BG_E_VALIDATION_FAILED BG_E_MAXDOWNLOAD_TIMEOUT BG_E_TOKEN_REQUIRED
		BG_E_UNKNOWN_PROPERTY_ID BG_E_READ_ONLY_PROPERTY BG_E_BLOCKED_BY_COST_TRANSFER_POLICY BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY
		BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE BG_E_READ_ONLY_PROPERTY_AFTER_RESUME BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE
		BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED BG_E_STANDBY_MODE BG_E_USE_STORED_CREDENTIALS_NOT_SUPPORTED BG_E_BLOCKED_BY_BATTERY_POLICY
		BG_E_BLOCKED_BY_BATTERY_SAVER BG_E_WATCHDOG_TIMEOUT BG_E_APP_PACKAGE_NOT_FOUND BG_E_APP_PACKAGE_SCENARIO_NOT_SUPPORTED BG_E_DATABASE_CORRUPT
		BG_E_RANDOM_ACCESS_NOT_SUPPORTED BG_E_BLOCKED_BY_BACKGROUND_ACCESS_POLICY BG_E_BLOCKED_BY_GAME_MODE BG_E_BLOCKED_BY_SYSTEM_POLICY
		BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD BG_E_UNSUPPORTED_JOB_CONFIGURATION BG_E_REMOTE_FILE_CHANGED
		BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED BG_E_READ_ONLY_WHEN_JOB_ACTIVE BG_E_ERROR_CONTEXT_SERVER_CERTIFICATE_CALLBACK
		BG_E_HTTP_ERROR_100 BG_E_HTTP_ERROR_505`},
	{"Add-BitsFile", `-BitsJob -Confirm -Destination -Source -WhatIf`},
	{"Complete-BitsTransfer", `-BitsJob -Confirm -WhatIf`},
	{"Get-BitsTransfer", `-AllUsers -JobId -Name`},
	{"Remove-BitsTransfer", `-BitsJob -Confirm -WhatIf`},
	{"Resume-BitsTransfer", `-Asynchronous -BitsJob -Confirm -WhatIf`},
	{"Set-BitsTransfer", `-ACLFlags -Authentication -BitsJob -CertHash -CertStoreLocation -CertStoreName -Confirm -Credential -CustomHeaders -CustomHeadersWriteOnly
		-Description -DisplayName -Dynamic -HttpMethod -MaxDownloadTime -NotifyCmdLine -NotifyFlags -Priority -ProxyAuthentication -ProxyBypass
		-ProxyCredential -ProxyList -ProxyUsage -RetryInterval -RetryTimeout -SecurityFlags -SetOwnerToCurrentUser -TransferPolicy
		-UseStoredCredential -WhatIf`},
	{"Start-BitsTransfer", `-ACLFlags -Asynchronous -Authentication -CertHash -CertStoreLocation -CertStoreName -Confirm -Credential -CustomHeaders
		-CustomHeadersWriteOnly -Description -Destination -DisplayName -Dynamic -HttpMethod -MaxDownloadTime -NotifyCmdLine -NotifyFlags -Priority
		-ProxyAuthentication -ProxyBypass -ProxyCredential -ProxyList -ProxyUsage -RetryInterval -RetryTimeout -SecurityFlags -Source -Suspended
		-TransferPolicy -TransferType -UseStoredCredential -WhatIf`},
	{"Suspend-BitsTransfer", `-BitsJob -Confirm -WhatIf`},
	{"bitsadmin", `/rawreturn, /wrap, /nowrap, /list, /list /allusers, /monitor, /monitor /allusers, /reset, /reset /allusers, /transfer, /create, /info, /info /verbose, /addfile, /addfileset, /addfilewithranges,
		/replaceremoteprefix, /listfiles, /suspend, /resume, /cancel, /complete, /gettype, /getaclflags, /getbytestotal, /getbytestransferred,
		/getfilestotal, /getfilestransferred, /getcreationtime, /getmodificationtime, /getcompletiontime, /getstate, /geterror, /getowner,
		/setaclflag, /getdisplayname, /setdisplayname, /getdescription, /setdescription, /getpriority, /setpriority, /getnotifyflags,
		/setnotifyflags, /getnotifyinterface, /getnotifycmdline, /setnotifycmdline, /getminretrydelay, /setminretrydelay, /getnoprogresstimeout,
		/setnoprogresstimeout, /getmaxdownloadtime, /setmaxdownloadtime, /geterrorcount, /getproxyusage, /getproxylist, /getproxybypasslist,
		/setproxysettings, /takeownership, /getreplyfilename, /setreplyfilename, /getreplyprogress, /getreplydata, /setcredentials,
		/removecredentials, /getcustomheaders, /setcustomheaders, /makecustomheaderswriteonly, /getclientcertificate, /setclientcertificatebyid,
		/setclientcertificatebyname, /removeclientcertificate, /getsecurityflags, /setsecurityflags, /gethttpmethod, /sethttpmethod,
		/gettemporaryname, /getvalidationstate, /setvalidationstate, /gethelpertokenflags, /sethelpertokenflags, /gethelpertokensid,
		/sethelpertoken, /getpeercachingflags, /setpeercachingflags, /peercaching /getconfigurationflags, /peercaching /setconfigurationflags,
		/peercaching /help, /cache /list, /cache /info, /cache /delete, /cache /deleteurl, /cache /clear, /cache /getlimit, /cache /setlimit, /cache
		/getexpirationtime, /cache /setexpirationtime, /cache /help, /peers /list, /peers /discover, /peers /clear, /peers /help, /util /version,
		/util /repairservice, /util /getieproxy, /util /setieproxy, /util /enableanalyticchannel, /util /help, /help, /?, /examples`},
	{"BranchCache: its cmdlets, and netsh", `Get-BCStatus, Get-BCClientConfiguration, Get-BCContentServerConfiguration, Get-BCHostedCacheServerConfiguration, Get-BCNetworkConfiguration,
		Get-BCDataCache, Get-BCHashCache, Get-BCDataCacheExtension, Enable-BCDistributed, Enable-BCLocal, Enable-BCHostedClient, Enable-BCHostedServer, Disable-BC,
		Reset-BC, Set-BCCache, Clear-BCCache, Set-BCDataCacheEntryMaxAge, Add-BCDataCacheExtension, Remove-BCDataCacheExtension, Export-BCCachePackage,
		Import-BCCachePackage, Publish-BCFileContent, Publish-BCWebContent, Set-BCSecretKey, Export-BCSecretKey, Import-BCSecretKey, Set-BCAuthentication,
		Set-BCMinSMBLatency, Enable-BCServeOnBattery, Disable-BCServeOnBattery, Enable-BCDowngrading, Disable-BCDowngrading, netsh branchcache exportkey`},
	{"Policies of BITS for peer caching", `DisableBranchCache EnablePeercaching DisablePeerCachingClient DisablePeerCachingServer MaxCacheSize MaxContentAge MaxBandwidthServed`},
}

// TestNothingIsMissing: the table has a row for everything that BITS has, and nothing else.
func TestNothingIsMissing(t *testing.T) {
	left := map[string]Section{}
	for _, s := range Sections() {
		left[s.Title] = s
	}
	for _, k := range known {
		want := strings.Fields(k.names)
		if strings.Contains(k.names, ",") { // some have blanks
			want = want[:0]
			for _, name := range strings.Split(strings.Join(strings.Fields(k.names), " "), ",") {
				want = append(want, strings.TrimSpace(name))
			}
		}
		var have []string
		for _, r := range left[k.title].Rows {
			switch {
			case r.BITS == k.title || r.BITS == "common parameters": // the cmdlet itself
			case strings.Contains(r.BITS, " to "): // the first and the last of many
				have = append(have, strings.Split(r.BITS, " to ")...)
			case strings.HasSuffix(r.BITS, "(HTTP_RESPONSE_HEADERS)"):
				have = append(have, "GetProperty")
			default:
				have = append(have, strings.Split(r.BITS, ", ")...)
			}
		}
		delete(left, k.title)
		slices.Sort(want)
		slices.Sort(have)
		if !slices.Equal(want, have) {
			t.Errorf("%s has %q, want %q", k.title, have, want)
		}
	}
	for title := range left {
		t.Errorf("nothing is known of %s", title)
	}
}
