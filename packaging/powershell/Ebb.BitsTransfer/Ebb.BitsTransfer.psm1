# Ebb.BitsTransfer: the cmdlets of BitsTransfer on a machine with ebb. Each function hands its
# parameters to `ebb NAME`, which does the work, and makes objects of the JSON that it prints.
# It needs PowerShell 7 and ebb in the PATH.
#
# UNTESTED: where this was written there is no PowerShell. That the functions have the parameters of
# the cmdlets is checked against the table of `ebb`; that they run is not.

Set-StrictMode -Version 3.0

# What PowerShell itself does with a call, and what each function hands over in its own way.
$script:NotForEbb = [System.Management.Automation.Cmdlet]::CommonParameters +
    [System.Management.Automation.Cmdlet]::OptionalCommonParameters + @('BitsJob', 'Source', 'Destination')

# ConvertTo-EbbArgument makes the arguments of ebb of bound parameters. Passwords and headers, which may
# be secrets too, are not among them: everybody on the machine can read those of a process.
# A certificate's hash may be bytes, as BitsTransfer has it, or their hexadecimal digits.
function ConvertTo-EbbArgument([System.Collections.IDictionary] $Bound) {
    foreach ($name in $Bound.Keys) {
        $value = $Bound[$name]
        if ($name -in $script:NotForEbb) { continue }
        if ($value -is [switch]) { "-${name}:`$$([bool] $value)" }
        elseif ($name -eq 'CustomHeaders') { "-$name"; '-' }
        elseif ($value -is [pscredential]) { "-$name"; $value.UserName }
        elseif ($name -eq 'CertHash' -and $value -is [array]) { "-$name"; [System.Convert]::ToHexString([byte[]] $value) }
        elseif ($value -is [array]) { "-$name"; $value -join ',' }
        else { "-$name"; [string] $value }
    }
}

# Invoke-Ebb runs a cmdlet of ebb. To its standard input go the headers, as a line of JSON, then the
# passwords, the server's first.
function Invoke-Ebb([string] $Name, [string[]] $Arguments, [System.Collections.IDictionary] $Bound) {
    $secrets = @(if ($Bound.Contains('CustomHeaders')) { ConvertTo-Json -Compress -InputObject ([string[]] $Bound['CustomHeaders']) }
        foreach ($key in 'Credential', 'ProxyCredential') {
        if ($Bound.Contains($key)) { $Bound[$key].GetNetworkCredential().Password }
    })
    $lines = @(if ($secrets) { $secrets | & ebb --json $Name @Arguments 2>&1 } else { & ebb --json $Name @Arguments 2>&1 })
    $code = $LASTEXITCODE
    $errors = @($lines | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] })
    $json = @($lines | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] }) -join "`n"
    if ($code -ne 0) {
        Write-Error -Message ($errors -join "`n") -ErrorId "Ebb,$code"
        return
    }
    if ($json.Trim().StartsWith('[')) { $json | ConvertFrom-Json }
}

# Get-EbbJobId returns the ids of what stands for jobs: objects, ids and names.
function Get-EbbJobId([object[]] $BitsJob) {
    foreach ($job in $BitsJob) { if ($job.PSObject.Properties['JobId']) { [string] $job.JobId } else { [string] $job } }
}

function Start-BitsTransfer {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [string[]] $ACLFlags,
        [switch] $Asynchronous,
        [ValidateSet('Basic', 'Digest', 'Ntlm', 'Negotiate', 'Passport')] [string] $Authentication,
        [object] $CertHash,
        [string] $CertStoreLocation,
        [string] $CertStoreName,
        [pscredential] $Credential,
        [string[]] $CustomHeaders,
        [switch] $CustomHeadersWriteOnly,
        [string] $Description,
        [Parameter(Position = 1, ValueFromPipelineByPropertyName)] [string[]] $Destination,
        [string] $DisplayName,
        [switch] $Dynamic,
        [string] $HttpMethod,
        [int] $MaxDownloadTime,
        [string[]] $NotifyCmdLine,
        [string[]] $NotifyFlags,
        [ValidateSet('Foreground', 'High', 'Normal', 'Low')] [string] $Priority,
        [ValidateSet('Basic', 'Digest', 'Ntlm', 'Negotiate', 'Passport')] [string] $ProxyAuthentication,
        [string[]] $ProxyBypass,
        [pscredential] $ProxyCredential,
        [uri[]] $ProxyList,
        [ValidateSet('SystemDefault', 'NoProxy', 'AutoDetect', 'Override')] [string] $ProxyUsage,
        [int] $RetryInterval,
        [int] $RetryTimeout,
        [string[]] $SecurityFlags,
        [Parameter(Mandatory, Position = 0, ValueFromPipelineByPropertyName)] [string[]] $Source,
        [switch] $Suspended,
        [ValidateSet('None', 'Unrestricted', 'Capped', 'BelowCap', 'NearCap', 'OverCapCharged', 'OverCapThrottled', 'UsageBased', 'Roaming', 'IgnoreCongestion', 'PolicyUnrestricted', 'Standard', 'NoSurcharge', 'NotRoaming', 'Always')] [string[]] $TransferPolicy,
        [ValidateSet('Download', 'Upload', 'UploadReply')] [string] $TransferType,
        [ValidateSet('None', 'Server', 'Proxy')] [string] $UseStoredCredential
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-Source', ($Source -join ','))
        if ($Destination) { $arguments += @('-Destination', ($Destination -join ',')) }
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Start-BitsTransfer' $arguments $PSBoundParameters
    }
}

function Add-BitsFile {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0, ValueFromPipeline)] [object[]] $BitsJob,
        [Parameter(Position = 2, ValueFromPipelineByPropertyName)] [string[]] $Destination,
        [Parameter(Mandatory, Position = 1, ValueFromPipelineByPropertyName)] [string[]] $Source
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-BitsJob', ((Get-EbbJobId $BitsJob) -join ','), '-Source', ($Source -join ','))
        if ($Destination) { $arguments += @('-Destination', ($Destination -join ',')) }
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Add-BitsFile' $arguments $PSBoundParameters
    }
}

function Get-BitsTransfer {
    [CmdletBinding(DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name')] [Alias('all')] [switch] $AllUsers,
        [Parameter(ParameterSetName = 'JobId', Mandatory, Position = 0, ValueFromPipelineByPropertyName)] [Alias('id')] [guid[]] $JobId,
        [Parameter(ParameterSetName = 'Name', Position = 0)] [Alias('n')] [string[]] $Name
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters)
        Invoke-Ebb 'Get-BitsTransfer' $arguments $PSBoundParameters
    }
}

function Set-BitsTransfer {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [string[]] $ACLFlags,
        [Alias('au')] [ValidateSet('Basic', 'Digest', 'Ntlm', 'Negotiate', 'Passport')] [string] $Authentication,
        [Parameter(Mandatory, Position = 0, ValueFromPipeline)] [Alias('b')] [object[]] $BitsJob,
        [object] $CertHash,
        [string] $CertStoreLocation,
        [string] $CertStoreName,
        [Alias('cred')] [pscredential] $Credential,
        [string[]] $CustomHeaders,
        [switch] $CustomHeadersWriteOnly,
        [Alias('d')] [string] $Description,
        [Alias('dn')] [string] $DisplayName,
        [switch] $Dynamic,
        [Alias('hm')] [string] $HttpMethod,
        [int] $MaxDownloadTime,
        [string[]] $NotifyCmdLine,
        [string[]] $NotifyFlags,
        [Alias('p')] [ValidateSet('Foreground', 'High', 'Normal', 'Low')] [string] $Priority,
        [Alias('pa')] [ValidateSet('Basic', 'Digest', 'Ntlm', 'Negotiate', 'Passport')] [string] $ProxyAuthentication,
        [Alias('pb')] [string[]] $ProxyBypass,
        [Alias('pc')] [pscredential] $ProxyCredential,
        [Alias('pl')] [uri[]] $ProxyList,
        [Alias('pu')] [ValidateSet('SystemDefault', 'NoProxy', 'AutoDetect', 'Override')] [string] $ProxyUsage,
        [int] $RetryInterval,
        [int] $RetryTimeout,
        [string[]] $SecurityFlags,
        [Alias('so')] [switch] $SetOwnerToCurrentUser,
        [ValidateSet('None', 'Unrestricted', 'Capped', 'BelowCap', 'NearCap', 'OverCapCharged', 'OverCapThrottled', 'UsageBased', 'Roaming', 'IgnoreCongestion', 'PolicyUnrestricted', 'Standard', 'NoSurcharge', 'NotRoaming', 'Always')] [string[]] $TransferPolicy,
        [ValidateSet('None', 'Server', 'Proxy')] [string] $UseStoredCredential
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-BitsJob', ((Get-EbbJobId $BitsJob) -join ','))
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Set-BitsTransfer' $arguments $PSBoundParameters
    }
}

function Suspend-BitsTransfer {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0, ValueFromPipeline)] [Alias('b')] [object[]] $BitsJob
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-BitsJob', ((Get-EbbJobId $BitsJob) -join ','))
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Suspend-BitsTransfer' $arguments $PSBoundParameters
    }
}

function Resume-BitsTransfer {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Alias('as')] [switch] $Asynchronous,
        [Parameter(Mandatory, Position = 0, ValueFromPipeline)] [Alias('b')] [object[]] $BitsJob
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-BitsJob', ((Get-EbbJobId $BitsJob) -join ','))
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Resume-BitsTransfer' $arguments $PSBoundParameters
    }
}

function Complete-BitsTransfer {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0, ValueFromPipeline)] [Alias('b')] [object[]] $BitsJob
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-BitsJob', ((Get-EbbJobId $BitsJob) -join ','))
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Complete-BitsTransfer' $arguments $PSBoundParameters
    }
}

function Remove-BitsTransfer {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory, Position = 0, ValueFromPipeline)] [Alias('b')] [object[]] $BitsJob
    )
    process {
        $arguments = @(ConvertTo-EbbArgument $PSBoundParameters) + @('-BitsJob', ((Get-EbbJobId $BitsJob) -join ','))
        if (-not $PSCmdlet.ShouldProcess(($arguments -join ' '))) { return }
        Invoke-Ebb 'Remove-BitsTransfer' $arguments $PSBoundParameters
    }
}

Export-ModuleMember -Function *-BitsTransfer, Add-BitsFile
